UPDATE jobrt_member SET alive = 1, failed = 0,
    attempt = (SELECT attempt FROM jobrt_job WHERE id = jobrt_member.job_id)
WHERE child_id IN (SELECT value FROM json_each(:ids)) AND kind <> 'd' AND kind = 'c';
