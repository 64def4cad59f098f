-- Pictures for people: image_annotate() and millrace.image_sheet().
CREATE TEMP TABLE pics (name text PRIMARY KEY, image bytea);
INSERT INTO pics VALUES ('rgb', decode('iVBORw0KGgoAAAANSUhEUgAAAAQAAAACCAIAAADwyuo0AAAAHElEQVR4nCXGsQ0AAAjAIEz8/+U6yIQQqnb+DAd06AcAD8h2vwAAAABJRU5ErkJggg==', 'base64'));
INSERT INTO pics SELECT 'large', image_resize(image, 400, 300, 'stretch', 'png') FROM pics;

-- As large as the image, in either format; no boxes, no change.
SELECT format, (image_info(image_annotate(image, ARRAY[(0, 'person', 0.9, 10, 10, 200, 200)]::millrace.detection[], format))).*
FROM pics, unnest(ARRAY['jpeg', 'png']) format WHERE name = 'large';
CREATE FUNCTION pg_temp.changed(boxes millrace.detection[], options jsonb = '{}') RETURNS boolean LANGUAGE sql AS $$
	SELECT (millrace.image_facts(image_annotate(image, boxes, 'png', options))).pixel_sha256 <> (millrace.image_facts(image)).pixel_sha256
	FROM pics WHERE name = 'large' $$;
SELECT pg_temp.changed(NULL) AS no_array, pg_temp.changed('{}') AS none,
	pg_temp.changed(ARRAY[NULL, (0, 'x', 1, NULL, 1, 2, 2)]::millrace.detection[]) AS nulls,
	pg_temp.changed(ARRAY[(0, 'x', 1, 'NaN', 1, 9, 9), (0, 'x', 1, 1, 1, 'NaN', 9)]::millrace.detection[]) AS not_a_number,
	pg_temp.changed(ARRAY[(0, 'x', 1, 50, 50, 20, 20), (0, 'x', 1, 5, 5, 5, 9)]::millrace.detection[]) AS no_area,
	pg_temp.changed(ARRAY[(0, 'x', 1, -50, 0, 0, 300), (0, 'x', 1, 400, 0, 1e30, 9), (0, 'x', 1, 0, '-Infinity', 9, 0)]::millrace.detection[]) AS outside;
SELECT pg_temp.changed(ARRAY[(0, 'x', 1, '-Infinity', -5, 'Infinity', 1e38)]::millrace.detection[]) AS clipped,
	pg_temp.changed(ARRAY[(NULL, NULL, NULL, 1, 1, 9, 9)]::millrace.detection[]) AS nameless,
	pg_temp.changed(ARRAY[(-2147483648, repeat(U&'\4E2D\0416\+01F600 ', 1000), 'NaN', 1, 1, 9, 9)]::millrace.detection[]) AS long_label;
-- Labels go with the option; a label too large for the image is left out.
SELECT pg_temp.changed(ARRAY[(0, 'x', 1, 10, 10, 90, 90)]::millrace.detection[], '{"labels": "none", "line_width": 2}');
SELECT (millrace.image_facts(image_annotate(image, d, 'png'))).pixel_sha256 = (millrace.image_facts(image_annotate(image, d, 'png', '{"labels": "none"}'))).pixel_sha256 AS left_out,
	(millrace.image_facts(image_annotate(image, d, 'png', '{"labels": "all"}'))).pixel_sha256 = (millrace.image_facts(image_annotate(image, d, 'png', '{"labels": "none"}'))).pixel_sha256 AS forced
FROM (SELECT image_resize(image, 32, 32, 'stretch', 'png') FROM pics WHERE name = 'rgb') i (image), (SELECT ARRAY[(1, 'cat', 0.9, 2, 2, 30, 30)]::millrace.detection[]) x (d);
SELECT width, height FROM pics, image_info(image_annotate(image, '{}', 'png', '{"scale": 16}')) WHERE name = 'rgb';
SELECT image_annotate(NULL, '{}') IS NULL AS no_image;
SELECT image_annotate('GIF89a', '{}');
SELECT image_annotate(image, '{}', 'gif') FROM pics WHERE name = 'rgb';
SELECT image_annotate(image, '{}', 'png', '{"colour": "red"}') FROM pics WHERE name = 'rgb';
SELECT image_annotate(image, '{}', 'png', '{"labels": "some"}') FROM pics WHERE name = 'rgb';
SELECT image_annotate(image, '{}', 'png', '{"line_width": 1e400}') FROM pics WHERE name = 'rgb';
SELECT image_annotate(image, '{}', 'png', '[]') FROM pics WHERE name = 'rgb';

-- Fonts are files that a superuser names; without any, letters are boxes.
SET millrace.fonts = '/nowhere/a.ttf, "/no where/b.ttf"';
SELECT pg_temp.changed(ARRAY[(0, 'x', 1, 10, 10, 90, 90)]::millrace.detection[]);
RESET millrace.fonts;
CREATE ROLE regress_image_user;
SET ROLE regress_image_user;
SET millrace.fonts = '/etc/passwd';
RESET ROLE;
DROP ROLE regress_image_user;

-- Sheets: six tiles in three columns of 100 pixels, a title, one line of captions; bad images are tiles, too.
SELECT format, width, height BETWEEN 240 AND 290 AS height FROM image_info((
	SELECT millrace.image_sheet(ARRAY[image, image, NULL, 'GIF89a', substr(image, 1, 300), image], ARRAY['a', NULL, 'none'],
		'{"columns": 3, "tile": 100, "title": "Title", "format": "png",
		  "boxes": [[{"class_name": "x", "x1": 1, "y1": 1, "x2": 300, "y2": 200}], null, [], [{"class_id": 1, "x1": null}]]}')
	FROM pics WHERE name = 'large'));
SELECT format, width > 200 AS wide, height < width AS high FROM image_info((SELECT millrace.image_sheet(array_agg(image)) FROM pics));
SELECT millrace.image_sheet(NULL) IS NULL AS null, millrace.image_sheet('{}') IS NULL AS empty;
SELECT millrace.image_sheet(ARRAY['', '']::bytea[], NULL, '{"tile": 8}');
SELECT millrace.image_sheet(ARRAY['', '']::bytea[], NULL, '{"boxes": {}}');
SELECT millrace.image_sheet(ARRAY[image], NULL, '{"boxes": [[1]]}') FROM pics WHERE name = 'rgb';
SELECT millrace.image_sheet(ARRAY[image], NULL, '{"boxes": [[{"x1": "1"}]]}') FROM pics WHERE name = 'rgb';
SELECT millrace.image_sheet(array_fill(''::bytea, ARRAY[1000]), NULL, '{"tile": 1024}');
SET millrace.image_max_pixels = 100000;
SELECT millrace.image_sheet(array_fill(''::bytea, ARRAY[20]), NULL, '{"tile": 100}');
RESET millrace.image_max_pixels;
-- A statement can be canceled in the middle of the work.
SET statement_timeout = 200;
SELECT length(millrace.image_sheet(array_agg(image), NULL, '{"tile": 16}')) FROM pics, generate_series(1, 3000) WHERE name = 'large';
RESET statement_timeout;
DROP TABLE pics;
