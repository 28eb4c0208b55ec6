-- The term grows when the leader changes, not when it renews. No row is returned if another worker leads.
INSERT INTO jobrt_leader (role, worker, term, expires_at) VALUES (:role, :worker, 1, :expires_at)
ON CONFLICT (role) DO UPDATE SET
    term = term + (worker IS NOT excluded.worker), worker = excluded.worker, expires_at = excluded.expires_at
WHERE worker IS excluded.worker OR expires_at <= :now
RETURNING term;
