/*
 * meaning.c
 *	  Do two questions ask the same?  See meaning.h.
 */
#include "text/meaning.h"

#include <stdio.h>

#include "text/text_int.h"

/* Digits of a text in a row, as a sum that does not care for their order. */
static uint64_t
numbers_of(const char *p, const char *end, int *negations)
{
	uint64_t	sum = 0;

	*negations = 0;
	for (; p < end; p++)
	{
		uint64_t	n = 0;

		if (end - p >= 4 && (strncasecmp(p, "not ", 4) == 0 || strncasecmp(p, "n't ", 4) == 0 || strncasecmp(p, "no ", 3) == 0))
			++*negations;
		if (end - p >= 7 && (strncasecmp(p, "without", 7) == 0 || strncasecmp(p, "never", 5) == 0))
			++*negations;
		for (; p < end && *p >= '0' && *p <= '9'; p++)
			n = n * 11 + (uint64_t) (*p - '0') + 1;
		sum += n * n + n;
	}
	return sum;
}

mr_code
txt_meaning_conflict(const mr_env *env, const char *a, size_t a_len, const char *b, size_t b_len,
					 char conflict[TXT_MAX_CONFLICT], mr_status *st)
{
	int			not_a,
				not_b;

	conflict[0] = '\0';
	if (numbers_of(a, a + a_len, &not_a) != numbers_of(b, b + b_len, &not_b))
		snprintf(conflict, TXT_MAX_CONFLICT, "number");
	else if (not_a != not_b)
		snprintf(conflict, TXT_MAX_CONFLICT, "negation");
	return MR_OK;
}
