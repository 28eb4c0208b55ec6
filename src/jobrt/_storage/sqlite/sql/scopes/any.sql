-- Runs at the end of jobs, so it must be cheap: most applications never have a row here.
SELECT EXISTS (SELECT 1 FROM jobrt_nursery);
