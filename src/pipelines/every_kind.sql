-- What pipelines of every kind have, run between the other parts of a template and its routes.

CREATE OR REPLACE FUNCTION @schema@.http_metrics() RETURNS millrace.http_response
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
	AS $$ BEGIN RETURN millrace.http_metrics(@schema_literal@); END $$;
COMMENT ON FUNCTION @schema@.http_metrics() IS 'figures of this pipeline, as Prometheus reads them or as JSON: for its owner and members of millrace_monitor';

GRANT USAGE ON SCHEMA @schema@ TO millrace_gateway;
