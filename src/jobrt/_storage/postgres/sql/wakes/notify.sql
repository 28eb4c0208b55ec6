-- Duplicates within one transaction are dropped by PostgreSQL itself.
select pg_notify(:channel, p) from unnest(:payloads::text[]) p
