-- Annotation files as rows, and the size of upright images; the readers' own tests are unit/test_quality_labels.c.
\pset null ~
SELECT * FROM millrace.parse_labels('yolo', E'3 0.5 0.5 0.2 0.1\nx\n0 0.25 0.25 0.75 0.25 0.75 0.75\n', 'labels/1.txt', 100, 200);
SELECT line, problem, detail FROM millrace.parse_labels('yolo', '3 0.5 0.5 0.2 0.1');
SELECT line, image, class_id, class_name, problem, detail FROM millrace.parse_labels('yaml', E'train: images/train\nnc: 3\nnames: [cat, dog]\n');
SELECT line, class_id, class_name FROM millrace.parse_labels('names', E'cat\ndog\n');
SELECT line, image FROM millrace.parse_labels('list', E'images/1.jpg\n');
SELECT * FROM millrace.parse_labels('coco', convert_to('{"images": [{"id": 1, "file_name": "1.jpg", "width": 40, "height": 30}], "categories": [{"id": 7, "name": "cat"}],
"annotations": [{"id": 5, "image_id": 1, "category_id": 7, "bbox": [1, 2, 3, 4], "area": 6.5, "iscrowd": 1},
{"id": 6, "image_id": 2, "category_id": 7, "bbox": [1, 2, 3, 4]}, {"id": 7, "image_id": 1, "category_id": 7, "bbox": [NaN, 2, 3, 4]}]', 'UTF8'));
SELECT * FROM millrace.parse_labels('voc', '<annotation><filename>1.jpg</filename><object><name>cat</name><difficult>1</difficult><bndbox><xmin>1</xmin><ymin>2</ymin><xmax>3</xmax><ymax>4</ymax></bndbox></object></annotation>');
SELECT x1, y1, x2, y2 FROM millrace.parse_labels('voc0', '<annotation><object><name>cat</name><bndbox><xmin>1</xmin><ymin>2</ymin><xmax>3</xmax><ymax>4</ymax></bndbox></object></annotation>');
SELECT problem, detail FROM millrace.parse_labels('voc', '<!DOCTYPE a [<!ENTITY b "c">]><annotation/>');
SELECT count(*) FROM millrace.parse_labels('coco', NULL);
SELECT * FROM millrace.parse_labels('tfrecord', '');
SELECT * FROM millrace.image_extent('no image');

-- Files of the server: members of two roles only, and paths below the directory.
CREATE ROLE regress_reader;
GRANT EXECUTE ON FUNCTION millrace.directory_files(text), millrace.directory_read(text, text), millrace.directory_write(text, text, bytea, boolean) TO regress_reader;
SET ROLE regress_reader;
SELECT * FROM millrace.directory_files('/tmp');
SELECT millrace.directory_read('/tmp', 'x');
SELECT millrace.directory_write('/tmp', 'x', '');
RESET ROLE;
GRANT pg_read_server_files, pg_write_server_files TO regress_reader;
SET ROLE regress_reader;
SELECT * FROM millrace.directory_files('tmp');
SELECT millrace.directory_read('/tmp', '../etc/passwd');
SELECT millrace.directory_read('/tmp', '/etc/passwd');
SELECT millrace.directory_write('/tmp', '..', '');
RESET ROLE;
DROP OWNED BY regress_reader;
DROP ROLE regress_reader;
