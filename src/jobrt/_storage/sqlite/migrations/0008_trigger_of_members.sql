-- Only workers of the first version leave the members that they end to the trigger. They change one of these columns at
-- each end; the statement for clean ends of later versions changes none, so that it does not pay for the trigger.
DROP TRIGGER jobrt_job_unsettled;
CREATE TRIGGER jobrt_job_unsettled AFTER UPDATE OF cancel_reason, schedule_at ON jobrt_job
WHEN old.extra & 8 AND new.state BETWEEN 4 AND 6 AND old.state NOT BETWEEN 4 AND 6
BEGIN
    INSERT OR IGNORE INTO jobrt_unsettled VALUES (new.id);
END;
