/*
 * meaning_asks.c
 *	  What a question asks for: who, when, why …, also where it says so in other
 *	  words: what time, which city, the reason why.
 */
#include <string.h>

#include "text/meaning.h"
#include "text/meaning_int.h"

#include <stdio.h>

static bool
has(const txt_mwords *q, const char *list)
{
	for (int i = 0; i < q->n; i++)
		if (txt_listed(list, &q->word[i]))
			return true;
	return false;
}

static bool
has_number(const txt_mwords *q)
{
	for (int i = 0; i < q->n; i++)
		if (q->word[i].number && !q->word[i].one)
			return true;
	return false;
}

/* ---- one question ---- */

/* What or which: what does it ask for in other words? */
static txt_asks
asks_what(const txt_mwords *q, int i)
{
	const txt_mword *next = i + 1 < q->n ? &q->word[i + 1] : NULL,
			   *after = i + 2 < q->n ? &q->word[i + 2] : NULL;

	if (next == NULL)
		return TXT_ASKS_WHAT;
	if (txt_listed("time", next) && !(after && after->joined && after->entry->kind == TXT_WORD_UNKNOWN))
		return TXT_ASKS_WHEN;
	if (txt_listed("date year day month century decade", next))
		return TXT_ASKS_WHEN;
	if (txt_listed("place city town country location", next) && !(after && txt_listed("is was has", after)))
		return TXT_ASKS_WHERE;
	if (txt_listed("person man woman author artist actor painter", next))
		return TXT_ASKS_WHO;
	if (txt_listed("makes made", next))
		return TXT_ASKS_WHY;
	for (int k = i + 1; k < q->n && k < i + 5; k++)
	{
		const txt_mword *w = &q->word[k],
				   *to = k + 1 < q->n ? w + 1 : NULL;

		if (w->entry->kind == TXT_WORD_SAID)
			return w->entry->asks;
		if (txt_listed("time", w) && to && txt_listed("to of for", to))
			return TXT_ASKS_WHEN;
	}
	return TXT_ASKS_WHAT;
}

static txt_asks
asks_how(const txt_mwords *q, int i)
{
	const txt_mword *next = i + 1 < q->n ? &q->word[i + 1] : NULL;

	if (next == NULL)
		return TXT_ASKS_HOW;
	if (txt_listed("many", next))
		return TXT_ASKS_NUMBER;
	if (txt_listed("much", next))
		return TXT_ASKS_AMOUNT;
	if (txt_listed("long", next))
		return TXT_ASKS_LENGTH;
	if (txt_listed("come", next))
		return TXT_ASKS_WHY;
	if (has(q, "differ different define defined") || (has(q, "called mean") && !has(q, "i")))
		return TXT_ASKS_WHAT;
	if (next->entry->kind == TXT_WORD_UNKNOWN && next->joined && !next->number && !next->name && i + 2 < q->n &&
		txt_listed("is are was were do does did can could should must will would a an", next + 1))
		return TXT_ASKS_DEGREE;
	return TXT_ASKS_HOW;
}

static txt_modal
modal_of(const txt_mwords *q)
{
	txt_modal	modal = TXT_MODAL_NONE;

	for (int i = 0; i < q->n; i++)
	{
		txt_modal	m = q->word[i].entry->modal;

		if (txt_listed("have has had", &q->word[i]) && i + 1 < q->n && txt_listed("to", &q->word[i + 1]))
			m = TXT_MODAL_MUST;
		/* "must" says more than "can", and will says the least */
		if (m != TXT_MODAL_NONE && (modal == TXT_MODAL_NONE || modal == TXT_MODAL_WILL || (m != TXT_MODAL_WILL && m > modal)))
			modal = m;
	}
	return modal;
}

void
txt_find_asks(txt_mwords *q)
{
	bool		yes_no = q->n > 0 &&
		txt_listed("is are was were am do does did can could will would shall should may might must has have had", &q->word[0]);

	q->asks = TXT_ASKS_NOTHING;
	for (int i = 0; i < q->n; i++)
	{
		const txt_mword *w = &q->word[i];

		if (w->entry->kind != TXT_WORD_ASKS || w->hard)
			continue;
		/* "can you tell me when": not "can I do it when" */
		if (yes_no && !(i > 0 && txt_listed("me us know explain", w - 1)))
			continue;
		q->asks = w->entry->asks == TXT_ASKS_WHAT ? asks_what(q, i) : w->entry->asks == TXT_ASKS_HOW ? asks_how(q, i) : w->entry->asks;
		return;
	}
	if (yes_no && !has(q, "tell explain show"))
	{
		q->asks = TXT_ASKS_YES_NO;
		q->modal = modal_of(q);
	}
}

/* ---- two ---- */

/* "What is …" that another question word may ask as well. */
static bool
what_asks(const txt_mwords *q, txt_asks asks)
{
	switch (asks)
	{
		case TXT_ASKS_WHO:
			return has(q, "name");
		case TXT_ASKS_WHEN:
			return has(q, "deadline date time birthday hours day year");
		case TXT_ASKS_WHERE:
			return has(q, "address location place city country");
		case TXT_ASKS_HOW:
			return has(q, "way ways method methods steps process procedure tips formula command instructions do treatment recipe shortcut training use meant");
		case TXT_ASKS_NUMBER:
			return has(q, "number count total many");
		case TXT_ASKS_AMOUNT:
			return has(q, "amount cost costs price fee wage salary rate percent allowance value") || has_number(q);
		case TXT_ASKS_LENGTH:
			return has(q, "length duration time distance expectancy lifespan validity");
		case TXT_ASKS_DEGREE:
			return true;		/* the word behind "how" decides */
		default:
			return false;
	}
}

static bool
quantities(txt_asks x, txt_asks y)
{
	return x >= TXT_ASKS_NUMBER && y >= TXT_ASKS_NUMBER &&
		(x == TXT_ASKS_DEGREE || y == TXT_ASKS_DEGREE || x == TXT_ASKS_NUMBER || y == TXT_ASKS_NUMBER);
}

bool
txt_asks_conflict(const txt_mwords *a, const txt_mwords *b, char *conflict)
{
	static const char *const names[] = {"", "yes or no", "what", "who", "when", "where", "why", "how", "how many", "how much", "how long", "how"};
	static const char *const modals[] = {"", "can", "should", "must", "will"};
	txt_asks	x = a->asks,
				y = b->asks;

	if (x == TXT_ASKS_YES_NO && y == TXT_ASKS_YES_NO && a->modal != TXT_MODAL_NONE && b->modal != TXT_MODAL_NONE && a->modal != b->modal)
	{
		snprintf(conflict, TXT_MAX_CONFLICT, "question: %s against %s", modals[a->modal], modals[b->modal]);
		return true;
	}
	if (x == y || x == TXT_ASKS_NOTHING || y == TXT_ASKS_NOTHING || (x == TXT_ASKS_WHAT && what_asks(a, y)) || (y == TXT_ASKS_WHAT && what_asks(b, x)) ||
		quantities(x, y))
		return false;
	/* "where do I change it" and "how do I change it" */
	if (((x == TXT_ASKS_HOW && y == TXT_ASKS_WHERE) || (x == TXT_ASKS_WHERE && y == TXT_ASKS_HOW)) && has(a, "i") && has(b, "i"))
		return false;
	snprintf(conflict, TXT_MAX_CONFLICT, "question: %s against %s", names[x], names[y]);
	return true;
}

bool
txt_may_be_missing(const txt_mwords *q, const txt_mword *w, const txt_mwords *other)
{
	const txt_mword *before = w > q->word ? w - 1 : NULL;

	if (w->hard)
		return false;
	if (w->entry->kind != TXT_WORD_UNKNOWN)
		return true;
	if (before && txt_listed("what which", before) && txt_listed("year date day month city country place town location", w))
		return true;
	if (before && txt_listed("how", before) && txt_listed("long", w))
		return other->asks == TXT_ASKS_LENGTH || what_asks(other, TXT_ASKS_LENGTH) || has(other, "hours days weeks months years minutes");
	if (before && txt_listed("many", before) && txt_listed("hours days weeks months years minutes", w))
		return other->asks == TXT_ASKS_LENGTH;
	if (txt_listed("word term", w))
		return has(q, "mean means meaning definition define");
	if (txt_listed("date day year", w) && other->asks == TXT_ASKS_WHEN)
		return q->asks == TXT_ASKS_WHAT;
	if (txt_listed("number", w))
		return other->asks == TXT_ASKS_NUMBER;
	if (txt_listed("amount money", w))
		return other->asks == TXT_ASKS_AMOUNT;
	return false;
}
