-- What live workers say about themselves.
select w.info from {schema}.worker w where w.expires_at > statement_timestamp()
