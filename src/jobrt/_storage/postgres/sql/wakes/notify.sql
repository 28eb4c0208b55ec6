-- PostgreSQL itself removes duplicates within one transaction.
select pg_notify(:channel, p) from unnest(:payloads::text[]) p
