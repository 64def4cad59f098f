-- registry: pictures as SVG text

CREATE FUNCTION millrace.plot_curves(evaluation bigint, curve text, title text DEFAULT NULL) RETURNS text
	LANGUAGE c STABLE PARALLEL RESTRICTED COST 10000
	AS 'MODULE_PATHNAME', 'millrace_plot_curves';
COMMENT ON FUNCTION millrace.plot_curves(bigint, text, text) IS
	'SVG of an evaluation''s curves (roc, pr or calibration), a line for each of the first 20 labels';

CREATE FUNCTION millrace.plot_roc(evaluation bigint, title text DEFAULT NULL) RETURNS text
	LANGUAGE sql STABLE PARALLEL RESTRICTED AS $$ SELECT millrace.plot_curves(evaluation, 'roc', title) $$;
COMMENT ON FUNCTION millrace.plot_roc(bigint, text) IS 'SVG of an evaluation''s ROC curves, with the area under each';

CREATE FUNCTION millrace.plot_pr(evaluation bigint, title text DEFAULT NULL) RETURNS text
	LANGUAGE sql STABLE PARALLEL RESTRICTED AS $$ SELECT millrace.plot_curves(evaluation, 'pr', title) $$;
COMMENT ON FUNCTION millrace.plot_pr(bigint, text) IS 'SVG of an evaluation''s precision-recall curves, with the area under each';

CREATE FUNCTION millrace.plot_calibration(evaluation bigint, title text DEFAULT NULL) RETURNS text
	LANGUAGE sql STABLE PARALLEL RESTRICTED AS $$ SELECT millrace.plot_curves(evaluation, 'calibration', title) $$;
COMMENT ON FUNCTION millrace.plot_calibration(bigint, text) IS
	'SVG of how often what had a probability came true, with the calibration error of each label';

CREATE FUNCTION millrace.plot_confusion(confusion jsonb, title text DEFAULT NULL) RETURNS text
	LANGUAGE c IMMUTABLE PARALLEL SAFE COST 1000
	AS 'MODULE_PATHNAME', 'millrace_plot_confusion';
COMMENT ON FUNCTION millrace.plot_confusion(jsonb, text) IS
	'SVG of a confusion matrix, as millrace.confusion_matrix() and millrace.evaluations have it';

CREATE FUNCTION millrace.plot_confusion(evaluation bigint, title text DEFAULT NULL) RETURNS text
	LANGUAGE sql STABLE PARALLEL RESTRICTED AS $$
		SELECT millrace.plot_confusion(e.confusion, coalesce(plot_confusion.title, pg_catalog.format('%s:%s', e.name, e.version)))
		FROM millrace.evaluations e WHERE e.id OPERATOR(pg_catalog.=) evaluation $$;
COMMENT ON FUNCTION millrace.plot_confusion(bigint, text) IS
	'SVG of an evaluation''s confusion matrix; null for a regression and past 200 labels';

CREATE FUNCTION millrace.plot_histogram("values" double precision[], bins integer DEFAULT 0, title text DEFAULT NULL) RETURNS text
	LANGUAGE c IMMUTABLE PARALLEL SAFE COST 1000
	AS 'MODULE_PATHNAME', 'millrace_plot_histogram';
COMMENT ON FUNCTION millrace.plot_histogram(double precision[], integer, text) IS
	'SVG of how numbers are distributed; bins 0: a number that suits them';

CREATE FUNCTION millrace.plot_histogram(query text, bins integer DEFAULT 0, title text DEFAULT NULL) RETURNS text
	LANGUAGE c VOLATILE PARALLEL UNSAFE COST 10000
	AS 'MODULE_PATHNAME', 'millrace_plot_histogram_query';
COMMENT ON FUNCTION millrace.plot_histogram(text, integer, text) IS
	'SVG of how the numbers of a query''s only column are distributed, read as the caller';

CREATE FUNCTION millrace.plot_lines(query text, title text DEFAULT NULL) RETURNS text
	LANGUAGE c VOLATILE PARALLEL UNSAFE COST 10000
	AS 'MODULE_PATHNAME', 'millrace_plot_lines';
COMMENT ON FUNCTION millrace.plot_lines(text, text) IS
	'SVG of a query, read as the caller: the first column (number, date or timestamp) is x, every other one a line; order the rows by x';

REVOKE EXECUTE ON FUNCTION
	millrace.plot_curves(bigint, text, text),
	millrace.plot_roc(bigint, text),
	millrace.plot_pr(bigint, text),
	millrace.plot_calibration(bigint, text),
	millrace.plot_confusion(bigint, text),
	millrace.plot_histogram(text, integer, text),
	millrace.plot_lines(text, text)
	FROM PUBLIC;
GRANT EXECUTE ON FUNCTION
	millrace.plot_curves(bigint, text, text),
	millrace.plot_roc(bigint, text),
	millrace.plot_pr(bigint, text),
	millrace.plot_calibration(bigint, text),
	millrace.plot_confusion(bigint, text),
	millrace.plot_histogram(text, integer, text),
	millrace.plot_lines(text, text)
	TO millrace_user, millrace_monitor;
