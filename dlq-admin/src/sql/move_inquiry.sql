-- $1 consumer group, $2 up to which number it was asked; 0 where about all.
SELECT ops.move_inquiry($1, $2)
