-- registry: what monitors saw

CREATE VIEW millrace.drift_alarms WITH (security_barrier) AS
SELECT d.monitor, d.window_no, d.window_start, d.window_end, d.role, d.column_name, d.rows, d.adjusted_p, d.reason
FROM millrace.drift d
WHERE d.alarm
UNION ALL
SELECT p.monitor, p.window_no, p.window_start, p.window_end, 'performance', NULL, p.labelled, p.p, p.reason
FROM millrace.monitor_performance p
WHERE p.alarm;
COMMENT ON VIEW millrace.drift_alarms IS 'alarms of all monitors: features, predictions, and performance (accuracy, once labels arrived)';

CREATE VIEW millrace.monitor_report WITH (security_barrier) AS
SELECT d.monitor, d.window_no, d.window_start, d.window_end,
	pg_catalog.max(d.rows) AS rows,
	pg_catalog.count(*) AS columns,
	pg_catalog.count(*) FILTER (WHERE d.alarm) AS alarms,
	pg_catalog.array_agg(d.column_name ORDER BY d.adjusted_p, d.column_name) FILTER (WHERE d.alarm) AS alarmed,
	pg_catalog.max(d.psi) AS largest_psi,
	pg_catalog.min(d.adjusted_p) AS least_p,
	p.labelled, p.accuracy, p.f1_macro,
	COALESCE(p.alarm, false) AS performance_alarm
FROM millrace.drift d
	LEFT JOIN millrace.monitor_performance p ON p.monitor = d.monitor AND p.window_no = d.window_no
GROUP BY d.monitor, d.window_no, d.window_start, d.window_end, p.labelled, p.accuracy, p.f1_macro, p.alarm;
COMMENT ON VIEW millrace.monitor_report IS 'one row a window: rows, alarms and the columns that raised them, largest PSI, accuracy where labels arrived';

GRANT SELECT ON millrace.drift_alarms, millrace.monitor_report TO millrace_modeler, millrace_admin, millrace_monitor;
