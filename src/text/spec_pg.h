/*
 * spec_pg.h
 *	  What a version's specification says of an encoder.
 *
 *	{"precision": "bfloat16", "pooling": "cls", "normalize": true, "max_tokens": 128,
 *	 "score": {…}, "description": "…", "licence": "…", "source": "…"}
 *
 * Every key is optional, an unknown one is an error.
 */
#ifndef MILLRACE_TEXT_SPEC_PG_H
#define MILLRACE_TEXT_SPEC_PG_H

#include "text/encoder.h"
#include "utils/jsonb.h"

typedef struct txt_spec
{
	nn_dtype	precision;
	int			pooling;		/* txt_pooling; -1: as the model's files say */
	int			normalize;		/* 0, 1; -1: likewise */
	int			max_tokens;		/* of an embedded text; 0: likewise */
	Jsonb	   *score;			/* of the functions that compare texts; NULL: nothing said */
} txt_spec;

/* In the current context.  Raises 22023. */
extern txt_spec *txt_spec_parse(Jsonb *json);

/* Raises 22023 where the specification cannot be had of this encoder. */
extern void txt_spec_check(const txt_spec *spec, const txt_encoder_info *info);

/* Lay it over what the files say. */
extern void txt_spec_apply(const txt_spec *spec, txt_encoder_info *info);

extern const char *txt_pooling_name(txt_pooling pooling);
extern const char *txt_family_name(txt_family family);

#endif							/* MILLRACE_TEXT_SPEC_PG_H */
