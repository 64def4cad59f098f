/*
 * status.c
 *	  Failure reports of the cores.  See status.h.
 */
#include "core/status.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

mr_code
mr_fail(mr_status *st, mr_code code, const char *fmt,...)
{
	va_list		args;

	if (st == NULL)
		return code;
	st->code = code;
	st->detail[0] = '\0';
	st->hint[0] = '\0';
	va_start(args, fmt);
	vsnprintf(st->message, sizeof(st->message), fmt, args);
	va_end(args);
	return code;
}

void
mr_detail(mr_status *st, const char *fmt,...)
{
	va_list		args;

	if (st == NULL)
		return;
	va_start(args, fmt);
	vsnprintf(st->detail, sizeof(st->detail), fmt, args);
	va_end(args);
}

void
mr_hint(mr_status *st, const char *fmt,...)
{
	va_list		args;

	if (st == NULL)
		return;
	va_start(args, fmt);
	vsnprintf(st->hint, sizeof(st->hint), fmt, args);
	va_end(args);
}
