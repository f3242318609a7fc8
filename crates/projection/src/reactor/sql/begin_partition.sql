-- Where nothing is stored, and under the epoch; asked again, what is stored is the answer.
UPDATE reactor.position SET next_offset = coalesce(next_offset, $5)
WHERE reactor = $1 AND topic = $2 AND partition = $3 AND epoch = $4
RETURNING next_offset
