-- quality: files of a folder on the server, for those who may read and write them

CREATE FUNCTION millrace.directory_files(directory text) RETURNS TABLE (path text, size bigint, problem text)
	LANGUAGE c VOLATILE STRICT ROWS 10000
	AS 'MODULE_PATHNAME', 'millrace_directory_files';
COMMENT ON FUNCTION millrace.directory_files(text) IS
	'the files below a directory of the server; problem says why one is not read (symbolic_link, too_deep …); for members of pg_read_server_files';
REVOKE EXECUTE ON FUNCTION millrace.directory_files(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION millrace.directory_files(text) TO pg_read_server_files;

CREATE FUNCTION millrace.directory_read(directory text, path text) RETURNS bytea
	LANGUAGE c VOLATILE STRICT
	AS 'MODULE_PATHNAME', 'millrace_directory_read';
COMMENT ON FUNCTION millrace.directory_read(text, text) IS
	'a file below a directory of the server, by no symbolic link; for members of pg_read_server_files';
REVOKE EXECUTE ON FUNCTION millrace.directory_read(text, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION millrace.directory_read(text, text) TO pg_read_server_files;

CREATE FUNCTION millrace.directory_write(directory text, path text, content bytea, overwrite boolean DEFAULT false) RETURNS void
	LANGUAGE c VOLATILE STRICT
	AS 'MODULE_PATHNAME', 'millrace_directory_write';
COMMENT ON FUNCTION millrace.directory_write(text, text, bytea, boolean) IS
	'writes a file below a directory of the server, whose folders are made, by no symbolic link; for members of pg_write_server_files';
REVOKE EXECUTE ON FUNCTION millrace.directory_write(text, text, bytea, boolean) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION millrace.directory_write(text, text, bytea, boolean) TO pg_write_server_files;
