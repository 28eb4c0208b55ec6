-- `version` is the VERSION of the class that made the payload; null is 1, so most rows have neither column. `unfit` is
-- the shape of a class that was too old for the payload: claims for such a class pass the job by.
ALTER TABLE jobrt_job ADD COLUMN version INTEGER;
ALTER TABLE jobrt_job ADD COLUMN unfit INTEGER;
