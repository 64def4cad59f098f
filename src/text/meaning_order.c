/*
 * meaning_order.c
 *	  The same words in other parts: "Celsius to Fahrenheit" and "Fahrenheit to
 *	  Celsius", "does a dog chase a cat" and "does a cat chase a dog".
 *
 * A word's part is the preposition before it, and where there is none, its
 * place among the words without one.  "X and Y" is the same as "Y and X".
 */
#include <stdio.h>
#include <string.h>

#include "text/meaning.h"
#include "text/meaning_int.h"

static bool
differ(char *conflict, const txt_mword *x, const txt_mword *y)
{
	snprintf(conflict, TXT_MAX_CONFLICT, "order: %.*s and %.*s", (int) (x->len > 48 ? 48 : x->len), x->text, (int) (y->len > 48 ? 48 : y->len), y->text);
	return true;
}

/* Words that can have a part: matched, and not such as any question has. */
static bool
has_part(const txt_mword *w)
{
	return w->match >= 0 && !w->number && (w->entry->kind == TXT_WORD_UNKNOWN || w->hard);
}

/* From Paris against to Paris; by Darwin against about Darwin. */
static bool
other_way(const txt_mword *x, const txt_mword *y)
{
	return x->way > TXT_WAY_PLAIN && y->way > TXT_WAY_PLAIN && x->way != y->way;
}

/* x has a preposition in a and none, or another, in b; with y it is the other way round. */
static bool
swapped_parts(const txt_mword *x, const txt_mword *in_b_x, const txt_mword *y, const txt_mword *in_b_y)
{
	return x->way != TXT_WAY_NONE && x->way != in_b_x->way && in_b_y->way == x->way && y->way != x->way;
}

/* A word that has a part stands between x and y, and between from and to in the other question. */
static bool
same_between(const txt_mword *x, const txt_mword *y, const txt_mwords *other, const txt_mword *from, const txt_mword *to)
{
	for (const txt_mword *w = x + 1; w < y; w++)
		if (has_part(w) && &other->word[w->match] > from && &other->word[w->match] < to)
			return true;
	return false;
}

bool
txt_order_conflict(const txt_mwords *a, const txt_mwords *b, char *conflict)
{
	for (const txt_mword *x = a->word; x < a->word + a->n; x++)
	{
		const txt_mword *bx;

		if (!has_part(x))
			continue;
		bx = &b->word[x->match];
		if (other_way(x, bx))
		{
			snprintf(conflict, TXT_MAX_CONFLICT, "direction: %.*s", (int) (x->len > 48 ? 48 : x->len), x->text);
			return true;
		}
		for (const txt_mword *y = x + 1; y < a->word + a->n; y++)
		{
			const txt_mword *by;
			bool		bare,
						turned;

			if (!has_part(y))
				continue;
			by = &b->word[y->match];
			if (bx == by || (y->in_series && (by->in_series || bx->in_series)))
				continue;
			if (swapped_parts(x, bx, y, by) || swapped_parts(y, by, x, bx))
				return differ(conflict, x, y);
			bare = x->way == TXT_WAY_NONE && bx->way == TXT_WAY_NONE && y->way == TXT_WAY_NONE;
			turned = by < bx;
			/* who does it, and to whom: "was X beaten by Y", "did X beat Y" */
			if (bare && !turned && by->way == TXT_WAY_BY && same_between(x, y, b, bx, by))
				return differ(conflict, x, y);
			if (!bare || by->way != TXT_WAY_NONE || !turned)
				continue;
			if (same_between(x, y, b, by, bx))
				return differ(conflict, x, y);
			if (y == x + 1 && y->joined && bx == by + 1 && bx->joined)
				return differ(conflict, x, y);
		}
	}
	return false;
}
