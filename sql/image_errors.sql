-- What is no good image is an ERROR with SQLSTATE 22023 that says why.
\set png 'iVBORw0KGgoAAAANSUhEUgAAAAQAAAACCAIAAADwyuo0AAAAHElEQVR4nCXGsQ0AAAjAIEz8/+U6yIQQqnb+DAd06AcAD8h2vwAAAABJRU5ErkJggg=='
CREATE TEMP TABLE refused (name text, sqlstate text, message text, detail text, hint text);
CREATE FUNCTION pg_temp.refuse(name text, image bytea, width int = 8, height int = 8, fit text = 'contain',
		format text = 'jpeg', quality int = 90) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	message text; detail text; hint text;
BEGIN
	PERFORM image_resize(image, width, height, fit, format, quality);
	INSERT INTO refused VALUES (name, '00000', 'no error');
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
	INSERT INTO refused VALUES (name, SQLSTATE, message, detail, hint);
END $$;

CREATE TEMP TABLE pics AS SELECT decode(:'png', 'base64') AS png, image_resize(decode(:'png', 'base64'), 64, 48, 'stretch') AS jpeg;
DO $$
DECLARE
	png bytea; jpeg bytea;
BEGIN
	SELECT p.png, p.jpeg INTO png, jpeg FROM pics p;
	PERFORM pg_temp.refuse('empty', ''),
		pg_temp.refuse('text', 'hello, world'),
		pg_temp.refuse('gif', 'GIF89a'),
		pg_temp.refuse('webp', 'RIFF\000\000\000\000WEBPVP8 '),
		pg_temp.refuse('half a jpeg', substr(jpeg, 1, length(jpeg) / 2)),
		pg_temp.refuse('jpeg without end', substr(jpeg, 1, length(jpeg) - 2)),
		pg_temp.refuse('start of a jpeg', substr(jpeg, 1, 3)),
		pg_temp.refuse('half a png', substr(png, 1, 50)),
		pg_temp.refuse('png header changed', set_byte(png, 17, 200)),
		pg_temp.refuse('png checksum changed', set_byte(png, length(png) - 13, get_byte(png, length(png) - 13) # 1)),
		pg_temp.refuse('fit', png, 8, 8, 'squeeze'),
		pg_temp.refuse('fit for networks', png, 8, 8, 'resize_crop'),
		pg_temp.refuse('format', png, 8, 8, 'cover', 'gif'),
		pg_temp.refuse('quality', png, 8, 8, 'cover', 'jpeg', 101),
		pg_temp.refuse('width', png, 0, 8),
		pg_temp.refuse('height', png, 8, -1),
		pg_temp.refuse('side', png, 16385, 8),
		pg_temp.refuse('pixels made', png, 16384, 16384);
END $$;
\x on
SELECT * FROM refused;
\x off
SELECT count(*) FILTER (WHERE sqlstate <> '22023') AS other_codes, count(*) FROM refused;

-- Limits are settings that only a superuser raises; each is checked before memory is taken.
TRUNCATE refused;
SET millrace.image_max_pixels = 7;
SELECT pg_temp.refuse('pixels', png) FROM pics;
SELECT image_info(png) FROM pics;
RESET millrace.image_max_pixels;
SET millrace.image_max_bytes = 1024;
SELECT pg_temp.refuse('bytes', png || decode(repeat('00', 1024), 'hex')) FROM pics;
RESET millrace.image_max_bytes;
SET millrace.image_max_side = 3;
SELECT pg_temp.refuse('side', png, 3, 3) FROM pics;
RESET millrace.image_max_side;
SET millrace.image_max_chunks = 3;
SELECT pg_temp.refuse('chunks', substr(png, 1, 33) || decode('00000000' || '74455874' || '3b2dcd16', 'hex') || substr(png, 34)) FROM pics;
RESET millrace.image_max_chunks;
SELECT * FROM refused;
CREATE ROLE regress_image_user;
SET ROLE regress_image_user;
SET millrace.image_max_pixels = 1000000000;
RESET ROLE;
DROP ROLE regress_image_user;
SELECT name, setting, unit, min_val, max_val, context FROM pg_settings WHERE name LIKE 'millrace.image%' ORDER BY 1;

-- A statement can be canceled in the middle of the work.
SET statement_timeout = 200;
SELECT sum(length(image_resize(png, 4000, 4000, 'stretch', 'png'))) FROM pics, generate_series(1, 100);
RESET statement_timeout;
DROP TABLE pics, refused;
