-- pipelines: what create_pipeline() made

CREATE TABLE millrace.pipelines (
	name text PRIMARY KEY CHECK (name <> ''),
	kind text NOT NULL,
	owner text NOT NULL,
	template_version text NOT NULL,
	options jsonb NOT NULL DEFAULT '{}',
	created_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE millrace.pipelines IS 'pipelines of this database; each is a schema of ordinary tables, triggers and views';
COMMENT ON COLUMN millrace.pipelines.name IS 'the pipeline''s schema';
COMMENT ON COLUMN millrace.pipelines.template_version IS 'extension version whose template was run last';
SELECT pg_catalog.pg_extension_config_dump('millrace.pipelines', '');
GRANT SELECT ON millrace.pipelines TO PUBLIC;
