-- task: the task queue

CREATE TRIGGER task_pools_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON millrace.task_pools
	FOR EACH STATEMENT EXECUTE FUNCTION millrace.sources_changed();
ALTER TABLE millrace.task_pools ENABLE ALWAYS TRIGGER task_pools_changed;
COMMENT ON TRIGGER task_pools_changed ON millrace.task_pools IS 'wakes supervisor and workers';

