-- The condition on the row of a worker whose lease holds. An expired worker stays expired: its jobs may have been rescued
-- already. The row must be at least as new as the last heartbeat that was answered: it is older if the file was restored.
expires_at > :now
    AND CASE WHEN json_valid(info) THEN coalesce(json_extract(info, '$.beat'), 0) ELSE 0 END >= :since
