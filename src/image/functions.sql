CREATE FUNCTION @extschema@.image_info(image bytea,
		OUT format text, OUT width int, OUT height int,
		OUT channels int, OUT bit_depth int, OUT orientation int)
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 200
	AS 'MODULE_PATHNAME', 'millrace_image_info';
COMMENT ON FUNCTION @extschema@.image_info(bytea) IS
	'format, size and EXIF orientation of a JPEG or PNG image as stored, from its header alone';

CREATE FUNCTION @extschema@.image_resize(image bytea, width int, height int,
		fit text DEFAULT 'contain', format text DEFAULT 'jpeg', quality int DEFAULT 90)
	RETURNS bytea
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 50000
	AS 'MODULE_PATHNAME', 'millrace_image_resize';
COMMENT ON FUNCTION @extschema@.image_resize(bytea, int, int, text, text, int) IS
	'a JPEG or PNG image of exactly width x height, upright; fit is contain (black bars), cover (centre crop) or stretch, format jpeg or png';
