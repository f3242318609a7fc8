SELECT epoch, next_offset, settlements FROM reactor.position WHERE reactor = $1 AND topic = $2 AND partition = $3
