-- registry: sketches of columns, on any table (C in sketch_pg.c, sketch_figures_pg.c)

CREATE FUNCTION millrace.sketch_add(internal, double precision) RETURNS internal
	LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'millrace_sketch_add_number';
CREATE FUNCTION millrace.sketch_add(internal, text) RETURNS internal
	LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'millrace_sketch_add_text';
CREATE FUNCTION millrace.sketch_add(internal, boolean) RETURNS internal
	LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'millrace_sketch_add_boolean';
CREATE FUNCTION millrace.sketch_add(internal, millrace.sketch) RETURNS internal
	LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'millrace_sketch_add_sketch';
CREATE FUNCTION millrace.sketch_combine(internal, internal) RETURNS internal
	LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'millrace_sketch_combine';
CREATE FUNCTION millrace.sketch_serialize(internal) RETURNS bytea
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'millrace_sketch_serialize';
CREATE FUNCTION millrace.sketch_deserialize(bytea, internal) RETURNS internal
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'millrace_sketch_deserialize';
CREATE FUNCTION millrace.sketch_final(internal) RETURNS millrace.sketch
	LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'millrace_sketch_final';
COMMENT ON FUNCTION millrace.sketch_add(internal, double precision) IS 'step of sketch_agg(double precision)';
COMMENT ON FUNCTION millrace.sketch_add(internal, text) IS 'step of sketch_agg(text)';
COMMENT ON FUNCTION millrace.sketch_add(internal, boolean) IS 'step of sketch_agg(boolean)';
COMMENT ON FUNCTION millrace.sketch_add(internal, millrace.sketch) IS 'step of sketch_agg(sketch)';
COMMENT ON FUNCTION millrace.sketch_combine(internal, internal) IS 'joins states of sketch_agg()';
COMMENT ON FUNCTION millrace.sketch_serialize(internal) IS 'state of sketch_agg() from a parallel worker';
COMMENT ON FUNCTION millrace.sketch_deserialize(bytea, internal) IS 'state of sketch_agg() from a parallel worker';
COMMENT ON FUNCTION millrace.sketch_final(internal) IS 'end of sketch_agg()';

CREATE AGGREGATE millrace.sketch_agg(value double precision) (
	SFUNC = millrace.sketch_add, STYPE = internal, SSPACE = 20000, FINALFUNC = millrace.sketch_final,
	COMBINEFUNC = millrace.sketch_combine, SERIALFUNC = millrace.sketch_serialize,
	DESERIALFUNC = millrace.sketch_deserialize, PARALLEL = SAFE);
CREATE AGGREGATE millrace.sketch_agg(value text) (
	SFUNC = millrace.sketch_add, STYPE = internal, SSPACE = 20000, FINALFUNC = millrace.sketch_final,
	COMBINEFUNC = millrace.sketch_combine, SERIALFUNC = millrace.sketch_serialize,
	DESERIALFUNC = millrace.sketch_deserialize, PARALLEL = SAFE);
CREATE AGGREGATE millrace.sketch_agg(value boolean) (
	SFUNC = millrace.sketch_add, STYPE = internal, SSPACE = 2000, FINALFUNC = millrace.sketch_final,
	COMBINEFUNC = millrace.sketch_combine, SERIALFUNC = millrace.sketch_serialize,
	DESERIALFUNC = millrace.sketch_deserialize, PARALLEL = SAFE);
CREATE AGGREGATE millrace.sketch_agg(value millrace.sketch) (
	SFUNC = millrace.sketch_add, STYPE = internal, SSPACE = 20000, FINALFUNC = millrace.sketch_final,
	COMBINEFUNC = millrace.sketch_combine, SERIALFUNC = millrace.sketch_serialize,
	DESERIALFUNC = millrace.sketch_deserialize, PARALLEL = SAFE);
COMMENT ON AGGREGATE millrace.sketch_agg(double precision) IS
	'sketch of numbers; null and NaN are missing, infinities take part in order, not in mean and sd';
COMMENT ON AGGREGATE millrace.sketch_agg(text) IS
	'sketch of categories, told apart by their first 255 bytes; counts are exact up to 1,024 of them';
COMMENT ON AGGREGATE millrace.sketch_agg(boolean) IS 'sketch of the categories true and false';
COMMENT ON AGGREGATE millrace.sketch_agg(millrace.sketch) IS 'sketches of parts joined: days to a week, shards to a table';

CREATE FUNCTION millrace.merge(a millrace.sketch, b millrace.sketch) RETURNS millrace.sketch
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 1000 AS 'MODULE_PATHNAME', 'millrace_sketch_merge';
COMMENT ON FUNCTION millrace.merge(millrace.sketch, millrace.sketch) IS 'sketch of the rows of both';

CREATE FUNCTION millrace.quantile(sketch millrace.sketch, q double precision) RETURNS double precision
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 1000 AS 'MODULE_PATHNAME', 'millrace_sketch_quantile';
COMMENT ON FUNCTION millrace.quantile(millrace.sketch, double precision) IS
	'smallest value that a share q of the numbers does not pass; exact up to 1,024 numbers and for q 0 and 1; null of no numbers';

CREATE FUNCTION millrace.describe(sketch millrace.sketch) RETURNS millrace.sketch_summary
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 1000 AS 'MODULE_PATHNAME', 'millrace_sketch_describe';
COMMENT ON FUNCTION millrace.describe(millrace.sketch) IS 'counts, extremes, quartiles, mean and standard deviation';

CREATE FUNCTION millrace.categories(sketch millrace.sketch) RETURNS TABLE (category text, "rows" bigint)
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 1000 ROWS 20 AS 'MODULE_PATHNAME', 'millrace_sketch_categories';
COMMENT ON FUNCTION millrace.categories(millrace.sketch) IS 'the categories of a sketch, most frequent first';

CREATE FUNCTION millrace.drift_figures(reference millrace.sketch, current millrace.sketch, bins integer DEFAULT 10)
	RETURNS millrace.drift_figures
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 10000 AS 'MODULE_PATHNAME', 'millrace_drift_figures';
COMMENT ON FUNCTION millrace.drift_figures(millrace.sketch, millrace.sketch, integer) IS
	'all figures of drift between two sketches at once: what monitors store';

CREATE FUNCTION millrace.psi(reference millrace.sketch, current millrace.sketch, bins integer DEFAULT 10)
	RETURNS double precision
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 10000 AS 'MODULE_PATHNAME', 'millrace_drift_psi';
COMMENT ON FUNCTION millrace.psi(millrace.sketch, millrace.sketch, integer) IS
	'population stability index over bins by the reference''s quantiles, or categories; a bin empty on one side counts half a row there';

CREATE FUNCTION millrace.jensen_shannon(reference millrace.sketch, current millrace.sketch, bins integer DEFAULT 10)
	RETURNS double precision
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 10000 AS 'MODULE_PATHNAME', 'millrace_drift_jensen_shannon';
COMMENT ON FUNCTION millrace.jensen_shannon(millrace.sketch, millrace.sketch, integer) IS
	'Jensen-Shannon distance (base 2) over the same bins: 0 equal, 1 nothing in common';

CREATE FUNCTION millrace.ks(reference millrace.sketch, current millrace.sketch) RETURNS millrace.test_result
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 10000 AS 'MODULE_PATHNAME', 'millrace_drift_ks';
COMMENT ON FUNCTION millrace.ks(millrace.sketch, millrace.sketch) IS
	'Kolmogorov-Smirnov test of two samples of numbers; p is asymptotic, and of a statistic made smaller by 3 standard errors of the sketches';

CREATE FUNCTION millrace.mann_whitney(reference millrace.sketch, current millrace.sketch) RETURNS millrace.test_result
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 10000 AS 'MODULE_PATHNAME', 'millrace_drift_mann_whitney';
COMMENT ON FUNCTION millrace.mann_whitney(millrace.sketch, millrace.sketch) IS
	'Mann-Whitney test of a shift; the statistic is the shift in standard deviations that two normal samples with these ranks would have';

CREATE FUNCTION millrace.chi2(reference millrace.sketch, current millrace.sketch, bins integer DEFAULT 10)
	RETURNS millrace.test_result
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 10000 AS 'MODULE_PATHNAME', 'millrace_drift_chi2';
COMMENT ON FUNCTION millrace.chi2(millrace.sketch, millrace.sketch, integer) IS
	'chi-squared test over categories, those expected less than 5 times as one, or over the bins of psi()';

REVOKE EXECUTE ON FUNCTION
	millrace.sketch_agg(double precision), millrace.sketch_agg(text), millrace.sketch_agg(boolean),
	millrace.sketch_agg(millrace.sketch), millrace.merge(millrace.sketch, millrace.sketch),
	millrace.quantile(millrace.sketch, double precision), millrace.describe(millrace.sketch),
	millrace.categories(millrace.sketch), millrace.drift_figures(millrace.sketch, millrace.sketch, integer),
	millrace.psi(millrace.sketch, millrace.sketch, integer),
	millrace.jensen_shannon(millrace.sketch, millrace.sketch, integer),
	millrace.ks(millrace.sketch, millrace.sketch), millrace.mann_whitney(millrace.sketch, millrace.sketch),
	millrace.chi2(millrace.sketch, millrace.sketch, integer)
	FROM PUBLIC;
GRANT EXECUTE ON FUNCTION
	millrace.sketch_agg(double precision), millrace.sketch_agg(text), millrace.sketch_agg(boolean),
	millrace.sketch_agg(millrace.sketch), millrace.merge(millrace.sketch, millrace.sketch),
	millrace.quantile(millrace.sketch, double precision), millrace.describe(millrace.sketch),
	millrace.categories(millrace.sketch), millrace.drift_figures(millrace.sketch, millrace.sketch, integer),
	millrace.psi(millrace.sketch, millrace.sketch, integer),
	millrace.jensen_shannon(millrace.sketch, millrace.sketch, integer),
	millrace.ks(millrace.sketch, millrace.sketch), millrace.mann_whitney(millrace.sketch, millrace.sketch),
	millrace.chi2(millrace.sketch, millrace.sketch, integer)
	TO millrace_user, millrace_monitor;
