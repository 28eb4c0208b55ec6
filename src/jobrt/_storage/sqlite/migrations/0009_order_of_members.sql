-- Members are read in the order of their identities, page by page, and sorted by who reads them. Only those that failed
-- are found in their order.
DROP INDEX jobrt_member_number;
CREATE INDEX jobrt_member_failed ON jobrt_member (job_id, nursery, number) WHERE failed = 1;
