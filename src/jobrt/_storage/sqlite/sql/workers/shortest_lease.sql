-- What a held transaction must stay well below: nobody can renew a lease meanwhile.
SELECT min(expires_at - beat_at) FROM jobrt_worker WHERE expires_at > ?;
