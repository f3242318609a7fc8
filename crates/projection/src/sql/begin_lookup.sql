-- What is looked up is looked up by its key: of tables that were empty when the statement was planned, the planner would read all rows for each.
SELECT set_config('enable_seqscan', 'off', true)
