/*
 * read_json.h
 *	  What the readers of a tokenizer.json share.
 */
#ifndef MILLRACE_TEXT_READ_JSON_H
#define MILLRACE_TEXT_READ_JSON_H

#include "text/members.h"
#include "text/text_int.h"

#define NAME 64					/* bytes of a name we compare */

/* A file being read, and what can only be resolved at its end. */
typedef struct txt_reader
{
	mr_json		js;
	txt_source	s;
	char		unknown[256];
	char		item[2 * TXT_MAX_TEMPLATE][256];	/* of the template, before and after the text */
	int32_t		item_id[2 * TXT_MAX_TEMPLATE];
	int			n_before,
				n_after;
	double		unk_id;
	bool		has_model;
} txt_reader;

/* read_json.c.  False: the status says why. */
extern bool txt_unsupported(txt_reader *r, const char *what, const char *name);	/* always false */
extern bool txt_peek_type(txt_reader *r, char *type);	/* 256 bytes: member "type" of the object at p, which stays there */
extern bool txt_read_id(txt_reader *r, int32_t *id);

/* read_steps.c: normalizers, or splitters. */
extern bool txt_read_steps(txt_reader *r, bool split, int depth);

/* read_template.c */
extern bool txt_read_template(txt_reader *r, int depth);

#endif							/* MILLRACE_TEXT_READ_JSON_H */
