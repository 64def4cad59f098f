/*
 * test_quality_labels.c
 *	  Annotation files: what labels say, and what each way of being broken is called.
 */
#include "unit.h"

#include <math.h>

#include "quality/labels.h"
#include "quality/labels_int.h"

/* What a file gave, as lines of text: "label class name x1 y1 x2 y2", "problem kind" … */
typedef struct rows
{
	int			labels;
	int			problems;
	int			others;
	char		text[65536];
	size_t		len;
} rows;

static void
collect(void *arg, const qlt_label *l)
{
	rows	   *r = arg;
	size_t		room = sizeof(r->text) - r->len;
	int			n;

	if (l->problem)
	{
		r->problems++;
		n = snprintf(r->text + r->len, room, "%s@%lld ", l->problem, (long long) l->line);
	}
	else if (l->has_box && (l->class_id >= 0 || l->class_name))
	{
		r->labels++;
		n = snprintf(r->text + r->len, room, "%d:%s[%g,%g,%g,%g]%s%s%g ", l->class_id, l->class_name ? l->class_name : "", l->box[0], l->box[1], l->box[2], l->box[3],
					 l->crowd ? "crowd" : "", l->area >= 0 ? "area" : "", l->area >= 0 ? l->area : 0);
	}
	else
	{
		r->others++;
		n = snprintf(r->text + r->len, room, "<%d:%s:%s:%s> ", l->class_id, l->class_name ? l->class_name : "", l->image ? l->image : "", l->detail ? l->detail : "");
	}
	if (n > 0 && (size_t) n < room)
		r->len += (size_t) n;
}

static rows got;

/* Read text, exactly as long as its memory, so that ASan sees a step beyond. */
static const char *
read_bytes(qlt_label_format format, const char *text, size_t len)
{
	char	   *copy = malloc(len ? len : 1);
	mr_status	st;

	memcpy(copy, text, len);
	memset(&got, 0, sizeof(got));
	if (qlt_labels_read(&mr_env_malloc, format, copy, len, 100, 200, collect, &got, &st) != MR_OK)
		snprintf(got.text, sizeof(got.text), "ERROR %s", st.message);
	free(copy);
	if (got.len > 0)
		got.text[got.len - 1] = '\0';
	return got.text;
}

static void
gives(qlt_label_format format, const char *text, const char *expected, const char *name)
{
	const char *is = read_bytes(format, text, strlen(text));

	if (!ok(strcmp(is, expected) == 0, "%s", name))
		printf("# got      %s\n# expected %s\n", is, expected);
}

static void
yolo(void)
{
	gives(QLT_YOLO, "3 0.5 0.5 0.2 0.1\n", "3:[40,90,60,110]0", "a box");
	gives(QLT_YOLO, "\xef\xbb\xbf 3\t0.5 .5 2e-1 +0.1 \r\n\r\n0 0.5 0.5 1 1 0.77", "3:[40,90,60,110]0 0:[0,0,100,200]0", "byte order mark, CRLF, tabs, a confidence, no line end");
	gives(QLT_YOLO, "1 0.1 0.1 0.5 0.1 0.5 0.6 0.1 0.6\n", "1:[10,20,50,120]area4000", "a polygon: its bounds, its area");
	gives(QLT_YOLO, "1 0.1 0.1 0.5 0.1 0.1 0.6\n", "1:[10,20,50,120]area2000", "a triangle");
	gives(QLT_YOLO, "", "", "an empty file shows nothing");
	gives(QLT_YOLO, "\n \n", "", "nor does a blank one");
	gives(QLT_YOLO, "1 0.9 0.9 0.4 0.4\n", "1:[70,140,110,220]0", "out of the image: as it is said");
	gives(QLT_YOLO, "1 0.5 0.5 -0.2 0.1\n", "1:[60,90,40,110]0", "so is a negative width");
	gives(QLT_YOLO, "1.0 0.5 0.5 0.2 0.1\n", "class_float@1 1:[40,90,60,110]0", "class 1.0");
	gives(QLT_YOLO, "1.5 0.5 0.5 0.2 0.1\n", "class_not_integer@1", "class 1.5");
	gives(QLT_YOLO, "person 0.5 0.5 0.2 0.1\n", "class_not_integer@1", "a class by name");
	gives(QLT_YOLO, "-1 0.5 0.5 0.2 0.1\n", "class_negative@1", "a negative class");
	gives(QLT_YOLO, "4294967296 0.5 0.5 0.2 0.1\n", "class_too_large@1", "a huge class");
	gives(QLT_YOLO, "nan 0.5 0.5 0.2 0.1\n", "not_finite@1", "class nan");
	gives(QLT_YOLO, "1\n", "missing_columns@1", "a class alone");
	gives(QLT_YOLO, "1 0.5 0.5 0.2\n", "missing_columns@1", "no height");
	gives(QLT_YOLO, "1 0.5 0.5 0.2 0.1 0.5 0.5 0.5\n", "extra_columns@1", "eight columns");
	gives(QLT_YOLO, "1 0.5 x 0.2 0.1\n1 0,5 0,5 0,2 0,1\n1 0.5 0.5 0x1p-2 0.1\n1 0.5 0.5 1_0 0.1\n1 . 0.5 1 1\n1 1e 1 1 1", "not_a_number@1 not_a_number@2 not_a_number@3 not_a_number@4 not_a_number@5 not_a_number@6",
		  "words, decimal commas, hexadecimal");
	gives(QLT_YOLO, "1 nan 0.5 0.2 0.1\n1 0.5 -inf 0.2 0.1\n1 0.5 Infinity 0.2 0.1", "not_finite@1 not_finite@2 not_finite@3", "nan and inf");
	gives(QLT_YOLO, "1 1e999 0.5 0.2 0.1\n", "number_too_large@1", "more than a double");
	gives(QLT_YOLO, "1 320 240 64 48\n", "not_normalised@1", "pixels");
	gives(QLT_YOLO, "1 0.5 0.5 0.2 0.1\nx\n2 0.5 0.5 0.2 0.1\n", "1:[40,90,60,110]0 class_not_integer@2 2:[40,90,60,110]0", "a bad line leaves the others alone");
	ok(strcmp(read_bytes(QLT_YOLO, "1 0.5 \0 0.2 0.1", 16), "binary_file@0") == 0, "a zero byte");
	ok(strcmp(read_bytes(QLT_YOLO, "\xff\xfe" "1\0 \0", 6), "utf16_file@0") == 0, "UTF-16 with a mark");
	ok(strcmp(read_bytes(QLT_YOLO, "1\0 \0" "0\0", 6), "utf16_file@0") == 0, "UTF-16 without");
	gives(QLT_YOLO, "1 0.5 0.5 0.2 0.1 \xe9\n", "invalid_utf8@0", "Latin-1");
	gives(QLT_YOLO, "\x01\x02\x03", "binary_file@0", "control characters");
	{
		char		many[8192] = "";
		mr_status	st;

		memset(&got, 0, sizeof(got));
		ok(qlt_labels_read(&mr_env_malloc, QLT_YOLO, "1 0.5 0.5 1 1\n2 0 0 0 0", 23, 0, 0, collect, &got, &st) == MR_OK && strcmp(got.text, "size_unknown@1 ") == 0,
		   "an image without a size is said once");
		for (int i = 0; i < 2000; i++)
			strcat(many, "x\n");
		(void) read_bytes(QLT_YOLO, many, strlen(many));
		ok(got.problems == QLT_MAX_PROBLEMS + 1 && strstr(got.text, "more_problems@0"), "two thousand problems: a thousand, and how many more");
	}
}

static void
names(void)
{
	gives(QLT_NAMES, "cat\r\n\ndog \nfire truck", "<0:cat::> <1:dog::> <2:fire truck::>", "classes.txt");
	gives(QLT_NAMES, "", "empty_file@0", "an empty one");
	gives(QLT_LIST, "./images/1.jpg\nimages/2.jpg\n", "<-1::./images/1.jpg:> <-1::images/2.jpg:>", "train.txt");
	gives(QLT_LIST, "", "", "an empty list");
}

static void
yaml(void)
{
	gives(QLT_YAML, "# c\npath: ../d # root\ntrain: images/train\nval: [a, 'b''c']\ntest:\nnc: 2\nnames:\n  0: person\n  1: \"fire \\\"truck\\\"\"\ndownload: |\n  a: b\n",
		  "<-1::../d:path> <-1::images/train:train> <-1::a:val> <-1::b'c:val> <0:person::> <1:fire \"truck\"::>", "data.yaml as Ultralytics writes it");
	gives(QLT_YAML, "names: [a, b,\n  c] # d\ntrain:\n  - x\n  - y", "<0:a::> <1:b::> <2:c::> <-1::x:train> <-1::y:train>", "a list over lines; a list of folders");
	gives(QLT_YAML, "names: {0: a, 2: 'c'}", "<0:a::> <2:c::>", "a map in braces");
	gives(QLT_YAML, "names:\n- a\n- b # x\n- it's", "<0:a::> <1:b::> <2:it's::>", "a list without indentation");
	gives(QLT_YAML, "---\r\nnames: [a]\r\nnc: 1\r\n...\r\n", "<0:a::>", "document marks, CRLF");
	gives(QLT_YAML, "nc: 3\nnames: [a, b]", "<0:a::> <1:b::> class_count_differs@0", "nc says another number");
	gives(QLT_YAML, "train: x", "<-1::x:train> missing_key@0", "no names");
	gives(QLT_YAML, "names: {0: a, 0: b}", "<0:a::> duplicate_key@1", "a class twice");
	gives(QLT_YAML, "names: [a]\nnames: [b]", "<0:a::> duplicate_key@2", "a key twice");
	gives(QLT_YAML, "names: &n [a]", "yaml_unsupported@1 missing_key@0", "an anchor");
	gives(QLT_YAML, "names: [a, [b]]", "<0:a::> yaml_unsupported@1", "a list within a list");
	gives(QLT_YAML, "names: [a, b", "<0:a::> <1:b::> yaml_unsupported@1", "no closing bracket");
	gives(QLT_YAML, "names: ['a", "yaml_unsupported@1 missing_key@0", "no closing quote");
	gives(QLT_YAML, "names: person", "yaml_unsupported@1 missing_key@0", "one name");
	gives(QLT_YAML, "names:\n  a: b", "class_not_integer@2 missing_key@0", "a map of words");
	gives(QLT_YAML, "names:\n\t0: a", "invalid_yaml@2 missing_key@0", "a tab");
	gives(QLT_YAML, "hello\nnames: [a]", "invalid_yaml@1 <0:a::>", "a line that is no key");
	gives(QLT_YAML, "names: [a]\nnc: two", "<0:a::> not_a_number@2", "nc in words");
}

#define COCO(images, annotations, categories) "{\"images\": [" images "], \"annotations\": [" annotations "], \"categories\": [" categories "]}"
#define IMAGE "{\"id\": 7, \"file_name\": \"a.jpg\", \"width\": 10, \"height\": 20}"
#define CAT "{\"id\": 3, \"name\": \"cat\"}"
#define SEEN "<3:cat::> <-1::a.jpg:>"

static void
coco(void)
{
	gives(QLT_COCO, COCO(IMAGE, "{\"id\": 1, \"image_id\": 7, \"category_id\": 3, \"bbox\": [1, 2, 3.5, 4], \"iscrowd\": 1, \"area\": 5.5, \"segmentation\": {\"counts\": \"x]}\", \"size\": [1, 2]}}", CAT),
		  SEEN " 3:cat[1,2,4.5,6]crowdarea5.5", "a label");
	gives(QLT_COCO, "{\"annotations\": [{\"image_id\": 7, \"category_id\": 3, \"bbox\": [1, 2, 3, 4]}], \"info\": {\"x\": [1]}, \"images\": [" IMAGE "], \"categories\": [" CAT "]}",
		  SEEN " 3:cat[1,2,4,6]0", "annotations before their images");
	gives(QLT_COCO, COCO(IMAGE, "{\"image_id\": 7, \"category_id\": 3, \"segmentation\": [[1, 2, 5, 9, 3, 0], [0, 1, 2, 3]]}", CAT), SEEN " 3:cat[0,0,5,9]0", "polygons without a box");
	gives(QLT_COCO, COCO("{\"id\": 7, \"file_name\": \"a\\u00e9\\/b.jpg\"}", "", ""), "<-1::a\xc3\xa9/b.jpg:>", "escapes in a name");
	gives(QLT_COCO, COCO(IMAGE, "{\"image_id\": 7, \"category_id\": 4, \"bbox\": [1, 2, 3, 4]}", CAT), SEEN " 4:[1,2,4,6]0", "a category that is not listed: as it is");
	gives(QLT_COCO, COCO(IMAGE, "{\"id\": 5, \"image_id\": 8, \"category_id\": 3, \"bbox\": [1, 2, 3, 4]}", CAT), SEEN " unknown_image@1", "an image that is not listed");
	gives(QLT_COCO, COCO(IMAGE, "{\"image_id\": 7, \"category_id\": 3}", CAT), SEEN " missing_key@1", "no box");
	gives(QLT_COCO, COCO(IMAGE, "{\"image_id\": 7, \"category_id\": 3, \"bbox\": null}", CAT), SEEN " missing_key@1", "a box that is null");
	gives(QLT_COCO, COCO(IMAGE, "{\"image_id\": 7, \"category_id\": 3, \"bbox\": []}", CAT), SEEN " missing_columns@1", "an empty box");
	gives(QLT_COCO, COCO(IMAGE, "{\"image_id\": 7, \"category_id\": 3, \"bbox\": [1, 2, 3, 4, 5]}", CAT), SEEN " extra_columns@1", "five numbers");
	gives(QLT_COCO, COCO(IMAGE, "{\"image_id\": 7, \"category_id\": 3, \"bbox\": [NaN, 2, 3, 4]}, {\"image_id\": 7, \"category_id\": 3, \"bbox\": [1, 2, 3, 4]}", CAT),
		  SEEN " not_finite@1 3:cat[1,2,4,6]0", "NaN; and the next is read");
	gives(QLT_COCO, COCO(IMAGE, "{\"image_id\": 7, \"category_id\": 3, \"score\": NaN, \"bbox\": [1, 2, 3, 1e300]}", CAT), SEEN " number_too_large@1", "a huge height; NaN where nobody looks");
	gives(QLT_COCO, COCO(IMAGE, "{\"image_id\": \"7\", \"category_id\": 3, \"bbox\": [1, 2, 3, 4]}", CAT), SEEN " wrong_type@1", "a number in quotes");
	gives(QLT_COCO, COCO(IMAGE, "{\"image_id\": 7.5, \"category_id\": 3, \"bbox\": [1, 2, 3, 4]}", CAT), SEEN " wrong_type@1", "half a number");
	gives(QLT_COCO, COCO(IMAGE, "{\"image_id\": 7, \"category_id\": -3, \"bbox\": [1, 2, 3, 4]}", CAT), SEEN " class_negative@1", "a negative category");
	gives(QLT_COCO, COCO(IMAGE, "{\"image_id\": 7, \"image_id\": 8, \"category_id\": 3, \"bbox\": [1, 2, 3, 4]}", CAT), SEEN " duplicate_key@1 unknown_image@1", "a key twice");
	gives(QLT_COCO, COCO(IMAGE ", {\"id\": 7, \"file_name\": \"b.jpg\"}", "", CAT ", {\"id\": 3, \"name\": \"dog\"}"), "<3:cat::> duplicate_id@1 <-1::a.jpg:> duplicate_id@1", "numbers twice");
	gives(QLT_COCO, COCO("{\"id\": 7}, 5, {\"file_name\": \"x\"}", "", CAT), "<3:cat::> missing_key@1 wrong_type@1 missing_key@1", "images without name or number, or none");
	gives(QLT_COCO, COCO(IMAGE " " IMAGE, "", CAT), SEEN " invalid_json@1", "a comma is missing");
	gives(QLT_COCO, COCO(IMAGE, "{\"image_id\" 7}, {\"image_id\": 7, \"category_id\": 3, \"bbox\": [1, 2, 3, 4]}", CAT), SEEN " invalid_json@1 3:cat[1,2,4,6]0", "an object that is no JSON; and the next is read");
	gives(QLT_COCO, "{\"images\": [" IMAGE "], \"categories\": [" CAT "],\n\"annotations\": [\n{\"image_id\": 7, \"category_id\": 3, \"bbox\": [1, 2, 3, 4]},\n{\"image_id\": 7, \"cat",
		  "invalid_json@2 " SEEN " 3:cat[1,2,4,6]0", "cut off: what was before is read");
	gives(QLT_COCO, "[1, 2]", "wrong_format@1", "an array");
	gives(QLT_COCO, "{}", "wrong_format@1", "an empty object");
	gives(QLT_COCO, "{\"a\": 1}", "wrong_format@1", "another JSON");
	gives(QLT_COCO, "{\"images\": {}, \"annotations\": 5}", "missing_key@0 wrong_type@1 wrong_type@1", "no arrays");
	gives(QLT_COCO, "", "empty_file@0", "an empty file");
	gives(QLT_COCO, "hello", "wrong_format@1", "a word");
	{
		/* Deep nesting is a matter of counting. */
		size_t		deep = 1000000;
		char	   *text = malloc(2 * deep + 16);

		memcpy(text, "{\"x\":", 5);
		memset(text + 5, '[', deep);
		memset(text + 5 + deep, ']', deep);
		text[5 + 2 * deep] = '}';
		ok(strcmp(read_bytes(QLT_COCO, text, 2 * deep + 6), "wrong_format@1") == 0, "a million brackets");
		free(text);
	}
	{
		/* Enough images that the table grows, in one line: what takes the square of it would be seen. */
		size_t		size = 32 << 20;
		char	   *text = malloc(size);
		size_t		len = (size_t) sprintf(text, "{\"categories\": [" CAT "], \"images\": [");

		for (int i = 0; i < 200000; i++)
			len += (size_t) sprintf(text + len, "%s{\"id\": %d, \"file_name\": \"%d.jpg\"}", i ? "," : "", i * 1024, i);
		len += (size_t) sprintf(text + len, "], \"annotations\": [");
		for (int i = 0; i < 200000; i++)
			len += (size_t) sprintf(text + len, "%s{\"image_id\": %d, \"category_id\": 3, \"bbox\": [0, 0, 1, 1]}", i ? "," : "", i * 1024);
		len += (size_t) sprintf(text + len, "]}");
		(void) read_bytes(QLT_COCO, text, len);
		ok(got.labels == 200000 && got.others == 200001 && got.problems == 0, "200,000 images: %d labels, %d problems", got.labels, got.problems);
		free(text);
	}
}

#define VOC(inner) "<?xml version=\"1.0\"?>\n<annotation verified='yes'>\n<filename>a&amp;b.jpg</filename>" inner "</annotation>\n"
#define OBJECT(inner) "<object><name>dog</name>" inner "</object>"
#define BOX "<bndbox><xmin>1</xmin><ymin>2</ymin><xmax>30</xmax><ymax>40.5</ymax></bndbox>"

static void
voc(void)
{
	gives(QLT_VOC, VOC("<size><width>50</width><height>60</height></size>" OBJECT("<difficult>1</difficult>" BOX)), "-1:dog[0,1,30,40.5]crowd0 <-1::a&b.jpg:>", "an object: corners from 1 on, the last inclusive");
	gives(QLT_VOC_ZERO, VOC(OBJECT(BOX)), "-1:dog[1,2,30,40.5]0 <-1::a&b.jpg:>", "corners from 0 on");
	gives(QLT_VOC, VOC(OBJECT("<part><name>head</name><bndbox><xmin>x</xmin></bndbox></part>" BOX)), "-1:dog[0,1,30,40.5]0 <-1::a&b.jpg:>", "parts are passed over");
	gives(QLT_VOC, VOC("<!-- <object> --><object><name><![CDATA[a<b]]>&#xe9;</name>" BOX "</object><pose/>"), "-1:a<b\xc3\xa9[0,1,30,40.5]0 <-1::a&b.jpg:>", "comments, CDATA, characters by number");
	gives(QLT_VOC, VOC("<object><name></name>" BOX "</object>" OBJECT(BOX)), "missing_key@3 -1:dog[0,1,30,40.5]0 <-1::a&b.jpg:>", "no name; and the next is read");
	gives(QLT_VOC, VOC(OBJECT("")), "missing_key@3 <-1::a&b.jpg:>", "no box");
	gives(QLT_VOC, VOC(OBJECT("<bndbox><xmin>1</xmin><ymin>2</ymin><xmax>30</xmax></bndbox>")), "missing_key@3 <-1::a&b.jpg:>", "no ymax");
	gives(QLT_VOC, VOC(OBJECT("<bndbox><xmin>one</xmin><ymin>nan</ymin><xmax>30</xmax><ymax>4</ymax></bndbox>")), "not_a_number@3 not_finite@3 <-1::a&b.jpg:>", "words and nan");
	gives(QLT_VOC, VOC(OBJECT(BOX BOX)), "duplicate_key@3 duplicate_key@3 duplicate_key@3 duplicate_key@3 -1:dog[0,1,30,40.5]0 <-1::a&b.jpg:>", "two boxes");
	gives(QLT_VOC, "<!DOCTYPE a [<!ENTITY b \"c\">]><annotation>&b;</annotation>", "xml_doctype@1", "a document type: no laughs");
	gives(QLT_VOC, "<annotation><filename>&b;</filename></annotation>", "xml_entity@1", "an entity");
	gives(QLT_VOC, "<annotation><filename>&#0;</filename></annotation>", "xml_entity@1", "a character that is none");
	gives(QLT_VOC, VOC(OBJECT(BOX)) "<x/>", "-1:dog[0,1,30,40.5]0 invalid_xml@4 <-1::a&b.jpg:>", "two roots");
	gives(QLT_VOC, "<annotation><object></annotation>", "invalid_xml@1", "ends that do not match");
	gives(QLT_VOC, "<annotation>\n" OBJECT(BOX) "\n<object><name>c", "-1:dog[0,1,30,40.5]0 invalid_xml@3", "cut off: what was before is read");
	gives(QLT_VOC, "<html><body/></html>", "wrong_format@1", "another XML");
	gives(QLT_VOC, "hello", "invalid_xml@1", "a word");
	gives(QLT_VOC, "<annotation a=b/>", "invalid_xml@1", "an attribute without quotes");
	gives(QLT_VOC, "<annotation a=\"<\"/>", "invalid_xml@1", "a < in an attribute");
	gives(QLT_VOC, "", "empty_file@0", "an empty file");
	gives(QLT_VOC, "<annotation/>", "", "an annotation of nothing");
	{
		char		text[4096] = "<annotation>";
		char		big[3000];

		for (int i = 0; i < 100; i++)
			strcat(text, "<a>");
		gives(QLT_VOC, text, "xml_too_deep@1", "a hundred levels");
		memset(big, 'x', sizeof(big));
		snprintf(text, sizeof(text), "<annotation><filename>%.2900s</filename></annotation>", big);
		gives(QLT_VOC, text, "name_too_long@1", "a long name");
	}
}

/* Every file, cut off anywhere, and with each byte changed: no error, no step beyond the end. */
static void
mutations(void)
{
	static const struct
	{
		qlt_label_format format;
		const char *text;
	}			files[] = {
		{QLT_YOLO, "3 0.5 0.5 0.2 0.1\r\n1 0.1 0.1 0.5 0.1 0.5 0.6\n"},
		{QLT_YAML, "path: ../d # r\ntrain: [a, 'b']\nnc: 2\nnames:\n  0: a\n  1: \"b\\\"\"\n- c\n"},
		{QLT_COCO, COCO("{\"id\": 7, \"file_name\": \"a\\u00e9.jpg\"}", "{\"id\": 1, \"image_id\": 7, \"category_id\": 3, \"bbox\": [1, 2, 3.5, 4], \"segmentation\": [[1,2,3,4]]}", CAT)},
		{QLT_VOC, VOC("<!--c--><size><width>5</width></size>" OBJECT("<![CDATA[x]]>" BOX))},
		{QLT_NAMES, "cat\r\ndog\n"}
	};
	static const char bytes[] = "\0\n\"'{}[]<>&#:,-\\ 9e\xff";
	int			errors = 0;
	int			runs = 0;

	for (size_t f = 0; f < sizeof(files) / sizeof(files[0]); f++)
	{
		size_t		len = strlen(files[f].text);
		char		copy[1024];

		for (size_t i = 0; i <= len; i++)
		{
			errors += strncmp(read_bytes(files[f].format, files[f].text, i), "ERROR", 5) == 0;
			for (size_t b = 0; b < sizeof(bytes) - 1 && i < len; b++, runs++)
			{
				memcpy(copy, files[f].text, len);
				copy[i] = bytes[b];
				errors += strncmp(read_bytes(files[f].format, copy, len), "ERROR", 5) == 0;
			}
		}
	}
	ok(errors == 0, "%d files with a byte changed, and all beginnings: no error", runs);
}

static bool
at_once(void *arg)
{
	(void) arg;
	return true;
}

int
main(void)
{
	qlt_label_format format;
	mr_env		stopped = mr_env_malloc;
	mr_status	st;

	ok(qlt_label_format_by_name("voc0", &format) && format == QLT_VOC_ZERO && !qlt_label_format_by_name("xml", &format), "formats by name");
	yolo();
	names();
	yaml();
	coco();
	voc();
	mutations();
	stopped.interrupted = at_once;
	ok(qlt_labels_read(&stopped, QLT_YOLO, "1 0 0 0 0", 9, 10, 10, collect, &got, &st) == MR_CANCELED, "canceled");
	return done_testing();
}
