-- The info that live workers have published.
select w.info from {schema}.worker w where w.expires_at > statement_timestamp()
