/*
 * options.h
 *	  Options of a function as a jsonb object, read by a list of what there is.
 */
#ifndef MILLRACE_REGISTRY_OPTIONS_H
#define MILLRACE_REGISTRY_OPTIONS_H

#include "utils/jsonb.h"

typedef enum reg_option_type
{
	REG_OPTION_TEXT,			/* char * */
	REG_OPTION_BOOL,			/* bool */
	REG_OPTION_INTEGER,			/* int64, low .. high */
	REG_OPTION_NUMBER,			/* double, low .. high */
	REG_OPTION_MEMORY,			/* int64 bytes: '200MB', or a number of kB */
	REG_OPTION_SECONDS,			/* double: a number, or '10 min' */
	REG_OPTION_JSON				/* JsonbValue: the caller's */
} reg_option_type;

typedef struct reg_option
{
	const char *name;			/* NULL ends the list */
	reg_option_type type;
	void	   *value;			/* set where the option is given and not null */
	double		low;
	double		high;			/* both 0: any */
} reg_option;

#define REG_OPTION(n, kind, where) {.name = n, .type = REG_OPTION_##kind, .value = where}
#define REG_OPTION_IN(n, kind, where, from, to) {.name = n, .type = REG_OPTION_##kind, .value = where, .low = from, .high = to}
#define REG_OPTION_END {.name = NULL}

/* Raises 22023 for an unknown name (the hint lists them), a wrong type or a
 * value out of range; function: "tune_model()". */
extern void reg_read_options(Jsonb *options, const char *function, const reg_option *list);

#endif							/* MILLRACE_REGISTRY_OPTIONS_H */
