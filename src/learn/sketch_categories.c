/*
 * sketch_categories.c
 *	  A sketch of categories: counts by value, exact up to a limit.
 *
 * Past twice the limit, the count of the (limit + 1)-th category is taken from
 * all, and what falls to zero is forgotten: Misra and Gries (1982) in batches,
 * which merges (Agarwal et al., "Mergeable summaries", 2012).  Counts are then
 * too low by at most error, which is at most rows / limit; what is missing from
 * them is in other, so that all together are the rows.
 */
#include "learn/sketch_int.h"

#include <stdlib.h>
#include <string.h>

#define MOST	(2 * LRN_SKETCH_CATEGORIES)
#define HASH_SEED	0x6D696C6C72616365u

static mr_code
grow_entries(lrn_sketch *s)
{
	sketch_categories *c = s->categories;
	int			size = c->size ? c->size * 2 : 16;
	sketch_entry *entry = mr_alloc(&s->env, (size_t) size * sizeof(sketch_entry));
	int32_t    *slot = mr_alloc(&s->env, (size_t) size * 2 * sizeof(int32_t));

	if (entry == NULL || slot == NULL)
	{
		mr_free(&s->env, entry);
		mr_free(&s->env, slot);
		return MR_NOMEM;
	}
	if (c->n)
		memcpy(entry, c->entry, (size_t) c->n * sizeof(sketch_entry));
	mr_free(&s->env, c->entry);
	mr_free(&s->env, c->slot);
	c->entry = entry;
	c->slot = slot;
	c->size = size;
	return MR_OK;
}

/* Fill the hash table from the entries. */
static void
rehash(sketch_categories *c)
{
	uint32_t	mask = (uint32_t) c->size * 2 - 1;

	memset(c->slot, 0xFF, ((size_t) mask + 1) * sizeof(int32_t));
	for (int i = 0; i < c->n; i++)
	{
		uint32_t	at = (uint32_t) c->entry[i].hash & mask;

		while (c->slot[at] >= 0)
			at = (at + 1) & mask;
		c->slot[at] = i;
	}
}

/* The slot of a category, or the free one where it belongs; size > 0. */
static uint32_t
find_slot(const sketch_categories *c, uint64_t hash, const char *text, uint32_t len)
{
	uint32_t	mask = (uint32_t) c->size * 2 - 1;
	uint32_t	at = (uint32_t) hash & mask;

	for (; c->slot[at] >= 0; at = (at + 1) & mask)
	{
		const sketch_entry *e = &c->entry[c->slot[at]];

		if (e->hash == hash && e->len == len && memcmp(c->text + e->offset, text, len) == 0)
			break;
	}
	return at;
}

const sketch_entry *
lrn_categories_find(const sketch_categories *c, const char *text, uint32_t len)
{
	int			i = c->n ? c->slot[find_slot(c, lrn_checksum(HASH_SEED, text, len), text, len)] : -1;

	return i >= 0 ? &c->entry[i] : NULL;
}

static int
descending(const void *a, const void *b)
{
	int64_t		x = *(const int64_t *) a,
				y = *(const int64_t *) b;

	return x > y ? -1 : x < y;
}

/* Back to at most LRN_SKETCH_CATEGORIES entries. */
static void
prune(sketch_categories *c)
{
	int64_t		count[MOST + 1];
	int64_t		cut;
	int			kept = 0;
	size_t		len = 0;

	for (int i = 0; i < c->n; i++)
		count[i] = c->entry[i].count;
	qsort(count, (size_t) c->n, sizeof(int64_t), descending);
	cut = count[LRN_SKETCH_CATEGORIES];
	for (int i = 0; i < c->n; i++)
	{
		sketch_entry e = c->entry[i];

		c->other += e.count < cut ? e.count : cut;
		e.count -= cut;
		if (e.count <= 0)
			continue;
		/* Texts stand in the order of the entries: they move down, never over one to come. */
		memmove(c->text + len, c->text + e.offset, e.len);
		e.offset = (uint32_t) len;
		len += e.len;
		c->entry[kept++] = e;
	}
	c->n = kept;
	c->text_len = len;
	c->error += cut;
	rehash(c);
}

static mr_code
room_for_text(lrn_sketch *s, size_t len)
{
	sketch_categories *c = s->categories;
	size_t		size = c->text_size ? c->text_size : 256;
	char	   *text;

	if (c->text_len + len <= c->text_size)
		return MR_OK;
	while (size < c->text_len + len)
		size *= 2;
	text = mr_alloc(&s->env, size);
	if (text == NULL)
		return MR_NOMEM;
	if (c->text_len)
		memcpy(text, c->text, c->text_len);
	mr_free(&s->env, c->text);
	c->text = text;
	c->text_size = size;
	return MR_OK;
}

/* Count without s->count: merging adds that at once. */
static mr_code
add_category(lrn_sketch *s, const char *text, size_t length, int64_t n)
{
	sketch_categories *c = s->categories;
	uint32_t	len = (uint32_t) (length < LRN_SKETCH_TEXT ? length : LRN_SKETCH_TEXT);
	uint64_t	hash = lrn_checksum(HASH_SEED, text, len);
	uint32_t	at = 0;
	mr_code		rc;

	if (c->size > 0)
	{
		at = find_slot(c, hash, text, len);
		if (c->slot[at] >= 0)
		{
			c->entry[c->slot[at]].count += n;
			return MR_OK;
		}
	}
	if (c->n == MOST)
		prune(c);
	if (c->n == c->size)
	{
		if ((rc = grow_entries(s)) != MR_OK)
			return rc;
		rehash(c);
	}
	if ((rc = room_for_text(s, len)) != MR_OK)
		return rc;
	at = find_slot(c, hash, text, len);
	memcpy(c->text + c->text_len, text, len);
	c->slot[at] = c->n;
	c->entry[c->n++] = (sketch_entry) {hash, n, (uint32_t) c->text_len, len};
	c->text_len += len;
	return MR_OK;
}

mr_code
lrn_sketch_add_text(lrn_sketch *s, const char *text, size_t len, int64_t n)
{
	if (s->kind != LRN_SKETCH_CATEGORY)
		return MR_INVALID;
	if (text == NULL)
	{
		s->missing += n;
		return MR_OK;
	}
	s->count += n;
	return add_category(s, text, len, n);
}

mr_code
lrn_categories_merge(lrn_sketch *into, const lrn_sketch *other)
{
	sketch_categories *c = into->categories;
	const sketch_categories *o = other->categories;
	mr_code		rc = MR_OK;

	into->count += other->count;
	into->missing += other->missing;
	c->other += o->other;
	c->error += o->error;
	for (int i = 0; rc == MR_OK && i < o->n; i++)
		rc = add_category(into, o->text + o->entry[i].offset, o->entry[i].len, o->entry[i].count);
	return rc;
}

bool
lrn_sketch_category(const lrn_sketch *s, int i, const char **text, int *len, int64_t *count)
{
	const sketch_categories *c = s->categories;

	if (c == NULL || i < 0 || i >= c->n)
		return false;
	*text = c->text + c->entry[i].offset;
	*len = (int) c->entry[i].len;
	*count = c->entry[i].count;
	return true;
}
