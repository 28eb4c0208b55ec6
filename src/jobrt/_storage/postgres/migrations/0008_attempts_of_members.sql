-- The attempt of the parent that has enqueued a member, or run it again: in that attempt it is not run once more.
alter table {schema}.member add column attempt integer not null default 0;
