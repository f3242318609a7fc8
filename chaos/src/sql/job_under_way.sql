-- How many members of jobs that are being applied are not settled.
SELECT count(*) AS unsettled
FROM ops.job AS j JOIN ops.job_member AS m ON m.job_id = j.id
WHERE j.state = 'applying' AND m.state IN ('waiting', 'sent')
