/*
 * statistics.c
 *	  What we want to know of librdkafka's statistics, a JSON text whose fields
 *	  always come in one order (its STATISTICS.md; strings in it are names of
 *	  topics and brokers, which hold no quotes).
 *
 * Each object of a topic's partition begins with "partition" and goes on with
 * "fetchq_size" and "ls_offset"; an object of a broker's ends with "partition".
 */
#include "stream/worker/library.h"

#include <stdlib.h>
#include <string.h>

/* The number of a field before end, or -1. */
static int64_t
field(const char *p, const char *end, const char *name)
{
	const char *found = strstr(p, name);

	return found && found < end ? strtoll(found + strlen(name), NULL, 10) : -1;
}

static bool
make_room(kfk_statistics *s, int n)
{
	int64_t    *more;

	if (n <= s->n_stable)
		return true;
	more = realloc(s->stable, sizeof(*more) * (size_t) n);
	if (more == NULL)
		return false;
	for (int i = s->n_stable; i < n; i++)
		more[i] = -1;
	s->stable = more;
	s->n_stable = n;
	return true;
}

void
kfk_read_statistics(kfk_statistics *s, const char *json)
{
	static const char partition[] = "\"partition\":";
	const char *p = strstr(json, partition);

	s->known = true;
	s->queued_bytes = 0;
	while (p)
	{
		const char *next = strstr(p + 1, partition);
		const char *end = next ? next : p + strlen(p);
		long		number = strtol(p + sizeof(partition) - 1, NULL, 10);
		int64_t		bytes = field(p, end, "\"fetchq_size\":");
		int64_t		stable = field(p, end, "\"ls_offset\":");

		/* All partitions share one queue, and each tells its size. */
		if (bytes > s->queued_bytes)
			s->queued_bytes = bytes;
		if (number >= 0 && number < 1000000 && stable >= 0 && make_room(s, (int) number + 1))
			s->stable[number] = stable;
		p = next;
	}
}
