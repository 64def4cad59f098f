CREATE FUNCTION millrace.flat_handler(internal) RETURNS index_am_handler
	LANGUAGE c
	AS 'MODULE_PATHNAME', 'millrace_flat_handler';
COMMENT ON FUNCTION millrace.flat_handler(internal) IS 'access method millrace_flat';

CREATE ACCESS METHOD millrace_flat TYPE INDEX HANDLER millrace.flat_handler;
COMMENT ON ACCESS METHOD millrace_flat IS 'nearest vectors first: compact codes of all vectors, scanned at the speed of memory';

-- The number of the one operator of a family is its metric.
CREATE OPERATOR FAMILY millrace.flat_cosine_ops USING millrace_flat;
CREATE OPERATOR CLASS millrace.flat_cosine_ops DEFAULT FOR TYPE real[] USING millrace_flat
	FAMILY millrace.flat_cosine_ops AS
	OPERATOR 1 millrace.<=> (real[], real[]) FOR ORDER BY pg_catalog.float_ops;
CREATE OPERATOR FAMILY millrace.flat_l2_ops USING millrace_flat;
CREATE OPERATOR CLASS millrace.flat_l2_ops FOR TYPE real[] USING millrace_flat
	FAMILY millrace.flat_l2_ops AS
	OPERATOR 2 millrace.<-> (real[], real[]) FOR ORDER BY pg_catalog.float_ops;
CREATE OPERATOR FAMILY millrace.flat_inner_ops USING millrace_flat;
CREATE OPERATOR CLASS millrace.flat_inner_ops FOR TYPE real[] USING millrace_flat
	FAMILY millrace.flat_inner_ops AS
	OPERATOR 3 millrace.<#> (real[], real[]) FOR ORDER BY pg_catalog.float_ops;
COMMENT ON OPERATOR FAMILY millrace.flat_cosine_ops USING millrace_flat IS 'order of the cosine distance, <=>';
COMMENT ON OPERATOR FAMILY millrace.flat_l2_ops USING millrace_flat IS 'order of the Euclidean distance, <->';
COMMENT ON OPERATOR FAMILY millrace.flat_inner_ops USING millrace_flat IS 'order of the negative inner product, <#>';
COMMENT ON OPERATOR CLASS millrace.flat_cosine_ops USING millrace_flat IS 'order of the cosine distance, <=>';
COMMENT ON OPERATOR CLASS millrace.flat_l2_ops USING millrace_flat IS 'order of the Euclidean distance, <->';
COMMENT ON OPERATOR CLASS millrace.flat_inner_ops USING millrace_flat IS 'order of the negative inner product, <#>';

CREATE FUNCTION millrace.flat_check(index regclass, OUT vectors bigint, OUT room bigint, OUT rows bigint, OUT missing bigint,
		OUT doubled bigint, OUT wrong bigint, OUT damaged bigint)
	LANGUAGE c STABLE STRICT
	AS 'MODULE_PATHNAME', 'millrace_flat_check';
COMMENT ON FUNCTION millrace.flat_check(regclass) IS
	'a millrace_flat index against its table: vectors and emptied places, rows it shows; rows missing, TIDs doubled, codes wrong, places damaged: 0 of a sound one';
REVOKE EXECUTE ON FUNCTION millrace.flat_check(regclass) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION millrace.flat_check(regclass) TO millrace_admin;
