/*
 * labels_voc.c
 *	  Pascal VOC's XML: one file an image.
 *
 *	  <annotation> <filename> <size><width><height></size>
 *	    <object> <name> <difficult> <bndbox><xmin><ymin><xmax><ymax></bndbox> </object> … </annotation>
 *
 * The devkit counts pixels from 1 and means the last one inclusively: the box
 * is xmin - 1, ymin - 1, xmax, ymax.  Some tools write corners from 0: format
 * voc0.  What is difficult counts neither for nor against a detector, as a crowd
 * does.  Parts of objects, poses and polygons are passed over.  See labels.h.
 */
#include <string.h>

#include "quality/labels_int.h"
#include "quality/xml.h"

enum
{
	GOT_NAME = 1, GOT_XMIN = 2, GOT_YMIN = 4, GOT_XMAX = 8, GOT_YMAX = 16, GOT_ALL = 31, GOT_DIFFICULT = 32
};

static const struct
{
	const char *path;
	int			flag;
}			parts[] = {
	{"annotation/object/name", GOT_NAME}, {"annotation/object/bndbox/xmin", GOT_XMIN}, {"annotation/object/bndbox/ymin", GOT_YMIN},
	{"annotation/object/bndbox/xmax", GOT_XMAX}, {"annotation/object/bndbox/ymax", GOT_YMAX}, {"annotation/object/difficult", GOT_DIFFICULT}
};

typedef struct voc
{
	qlt_reader *r;
	qlt_xml		x;
	char		image[QLT_XML_TEXT + 1];
	double		width;
	double		height;
	/* of the object being read */
	int			got;
	bool		wrong;			/* a problem was handed on */
	int64_t		line;
	char		name[QLT_XML_TEXT + 1];
	double		box[4];
	double		difficult;
} voc;

/* The text of the element that just ended, as a number. */
static bool
number(voc *v, double *value)
{
	qlt_number	what = qlt_parse_number(v->x.text, v->x.text_len, value);

	if (what == QLT_NUMBER)
		return true;
	qlt_problem(v->r, qlt_line(v->r, v->x.at), NULL, qlt_number_problem(what), "%s: \"%.*s\"", v->x.path,
				qlt_cut(v->x.text, v->x.text_len, 60), v->x.text);
	return false;
}

static void
end_object_part(voc *v)
{
	for (int i = 0; i < (int) (sizeof(parts) / sizeof(parts[0])); i++)
		if (strcmp(v->x.path, parts[i].path) == 0)
		{
			int			flag = parts[i].flag;

			if (v->got & flag)
				qlt_problem(v->r, qlt_line(v->r, v->x.at), NULL, "duplicate_key", "a second %s in an object: the last one counts", v->x.path);
			v->got |= flag;
			if (flag == GOT_NAME)
			{
				memcpy(v->name, v->x.text, v->x.text_len + 1);
				if (v->x.text_len == 0)
					v->got &= ~GOT_NAME;
			}
			else if (!number(v, flag == GOT_DIFFICULT ? &v->difficult : &v->box[i - 1]))
				v->wrong = v->wrong || flag != GOT_DIFFICULT;
		}
}

static void
end_object(voc *v, bool from_one)
{
	qlt_label	label = QLT_NO_LABEL;

	if (v->wrong)
		return;
	if ((v->got & GOT_ALL) != GOT_ALL)
	{
		for (int i = 0; i < 5; i++)
			if (!(v->got & parts[i].flag))
			{
				qlt_problem(v->r, v->line, NULL, "missing_key", "an object has no %s", parts[i].path + strlen("annotation/object/"));
				return;
			}
	}
	label.line = v->line;
	label.image = v->image[0] ? v->image : NULL;
	label.class_name = v->name;
	label.has_box = true;
	memcpy(label.box, v->box, sizeof(label.box));
	label.box[0] -= from_one;
	label.box[1] -= from_one;
	label.crowd = v->difficult != 0;
	qlt_give_label(v->r, &label);
}

/* The file's image and its size, if they are told. */
static void
give_image(voc *v)
{
	qlt_label	label = QLT_NO_LABEL;

	label.image = v->image[0] ? v->image : NULL;
	label.has_box = v->width > 0 && v->height > 0;
	label.box[2] = v->width;
	label.box[3] = v->height;
	if (label.image || label.has_box)
		qlt_give_label(v->r, &label);
}

mr_code
qlt_read_voc(qlt_reader *r, bool from_one)
{
	voc			v = {.r = r};
	int64_t		steps = 0;

	qlt_xml_begin(&v.x, r->text, r->end);
	for (;;)
	{
		qlt_xml_step step = qlt_xml_next(&v.x);
		const char *path = v.x.path;
		mr_code		code = ++steps % 4096 == 0 ? qlt_go_on(r) : MR_OK;

		if (code != MR_OK)
			return code;
		if (step == QLT_XML_FAULT)
			qlt_problem(r, qlt_line(r, v.x.at), NULL, v.x.fault, "%s", v.x.reason);
		if (step == QLT_XML_FAULT || step == QLT_XML_END)
			break;
		if (step == QLT_XML_OPEN)
		{
			if (v.x.depth == 1 && strcmp(path, "annotation") != 0)
			{
				qlt_problem(r, qlt_line(r, v.x.at), NULL, "wrong_format", "the root element is \"%.*s\", of Pascal VOC it is \"annotation\"",
							qlt_cut(path, strlen(path), 100), path);
				return MR_OK;
			}
			if (strcmp(path, "annotation/object") == 0)
			{
				v.got = 0;
				v.wrong = false;
				v.difficult = 0;
				v.line = qlt_line(r, v.x.at);
			}
		}
		else if (strncmp(path, "annotation/object/", 18) == 0)
			end_object_part(&v);
		else if (strcmp(path, "annotation/object") == 0)
			end_object(&v, from_one);
		else if (strcmp(path, "annotation/filename") == 0)
			memcpy(v.image, v.x.text, v.x.text_len + 1);
		else if (strcmp(path, "annotation/size/width") == 0)
			(void) number(&v, &v.width);
		else if (strcmp(path, "annotation/size/height") == 0)
			(void) number(&v, &v.height);
	}
	give_image(&v);
	return MR_OK;
}
