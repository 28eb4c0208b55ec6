select pg_notify(:channel, 'c')
