/*
 * xml.h
 *	  A strict reader of small XML: elements and their text, one step at a time.
 *
 * No document type, so no entities but the five that XML has and characters by
 * number: nothing expands.  Attributes are checked and passed over.  The text is
 * valid UTF-8.  Nothing is allocated; nothing recurses.
 */
#ifndef MILLRACE_XML_H
#define MILLRACE_XML_H

#include <stdbool.h>
#include <stddef.h>

#define QLT_XML_DEPTH 64
#define QLT_XML_TEXT 1024		/* bytes of an element's text that are kept */

typedef enum qlt_xml_step
{
	QLT_XML_OPEN,				/* an element begins: path ends with its name */
	QLT_XML_CLOSE,				/* it ends: path as at its beginning, text its text */
	QLT_XML_END,				/* the root was closed, nothing follows */
	QLT_XML_FAULT				/* fault says why */
} qlt_xml_step;

typedef struct qlt_xml
{
	const char *p;
	const char *end;
	const char *at;				/* where the step just taken began */
	int			depth;
	bool		rooted;			/* the root element was seen */
	bool		close;			/* <a/>: its end is the next step */
	bool		leave;			/* the last step was a CLOSE: its name is still in path */
	size_t		name_end[QLT_XML_DEPTH + 1];	/* of each level, in path */
	char		path[512];		/* names from the root, with slashes between */
	char		text[QLT_XML_TEXT + 1]; /* of the innermost element since its last child, trimmed */
	size_t		text_len;
	const char *fault;			/* kind of problem */
	const char *reason;
} qlt_xml;

extern void qlt_xml_begin(qlt_xml *x, const char *text, const char *end);
extern qlt_xml_step qlt_xml_next(qlt_xml *x);

#endif							/* MILLRACE_XML_H */
