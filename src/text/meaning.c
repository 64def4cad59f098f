/*
 * meaning.c
 *	  Do two questions ask the same?  See meaning.h.
 *
 * Each question is cut into words (meaning_cut.c), and those of the one are matched with those of
 * the other: as they are, without endings, as words of which one is said for another.  Then
 *
 *	numbers		must be the same, in the same order
 *	negations	must be as many
 *	words		that have no match must be loose: articles, auxiliary verbs, what frames a question.
 *				Whatever is not known to be so is taken for a name.
 *	question	who, when, where, why … must be the same, where both say it
 *	direction	to against from; who does it, and to whom
 *
 * The first that does not hold is the conflict.  In doubt there is one: a question too many is asked.
 */
#include "text/meaning.h"

#include <stdarg.h>
#include <stdio.h>

#include "text/meaning_int.h"
#include "text/text_int.h"

__attribute__((format(printf, 2, 3)))
static bool
differ(char *conflict, const char *format,...)
{
	va_list		args;

	va_start(args, format);
	vsnprintf(conflict, TXT_MAX_CONFLICT, format, args);
	va_end(args);
	return true;
}

/* For messages: a word, cut between characters. */
static int
shown(const txt_mword *w)
{
	int			n = w->len > 48 ? 48 : (int) w->len;

	while (n > 0 && n < (int) w->len && (w->text[n] & 0xc0) == 0x80)
		n--;
	return n;
}

/* ---- numbers ---- */

static const txt_mword *
next_number(const txt_mwords *q, int *i, bool with_one)
{
	while (*i < q->n)
	{
		const txt_mword *w = &q->word[(*i)++];

		if (w->number && (with_one || !w->one))
			return w;
	}
	return NULL;
}

/* with_one: "one" is a number, else an article. */
static bool
same_numbers(const txt_mwords *a, const txt_mwords *b, bool with_one, char *conflict)
{
	for (int i = 0, j = 0;;)
	{
		const txt_mword *x = next_number(a, &i, with_one),
				   *y = next_number(b, &j, with_one);

		if (x == NULL && y == NULL)
			return true;
		if (x == NULL || y == NULL)
			return !differ(conflict, "number: %.12g only in one", x ? x->value : y->value);
		if (x->value != y->value)
			return !differ(conflict, "number: %.12g against %.12g", x->value, y->value);
	}
}

/* ---- words ---- */

static bool
same_text(const txt_mword *x, const txt_mword *y)
{
	return x->len == y->len && memcmp(x->text, y->text, x->len) == 0;
}

static bool
same_stem(const txt_mword *x, const txt_mword *y, bool deep)
{
	char		s[TXT_MAX_STEM],
				t[TXT_MAX_STEM];
	size_t		m,
				n;

	if (x->len > TXT_MAX_STEM || y->len > TXT_MAX_STEM)
		return false;
	m = txt_stem(x->text, x->len, deep, s);
	n = txt_stem(y->text, y->len, deep, t);
	return m == n && memcmp(s, t, n) == 0;
}

/* How two words may be matched, the surest first. */
enum
{
	AS_THEY_ARE, BY_STEM, BY_DEEP_STEM, BY_MEANING, RULES
};

static bool
match(const txt_mword *x, const txt_mword *y, int rule)
{
	/* a name is spelled as it is spelled, but for the possessive, which is cut off */
	if (rule != AS_THEY_ARE && rule != BY_MEANING && (x->name || y->name))
		return false;
	switch (rule)
	{
		case AS_THEY_ARE:
			return same_text(x, y);
		case BY_STEM:
			return same_stem(x, y, false);
		case BY_DEEP_STEM:
			return same_stem(x, y, true);
		default:
			return x->entry->same != 0 && x->entry->same == y->entry->same;
	}
}

/* Words of a and b one by one; match: index in the other. */
static void
match_words(txt_mwords *a, txt_mwords *b)
{
	for (int rule = 0; rule < RULES; rule++)
		for (int i = 0; i < a->n; i++)
			for (int j = 0; j < b->n && a->word[i].match < 0; j++)
				if (b->word[j].match < 0 && !a->word[i].number && !b->word[j].number && match(&a->word[i], &b->word[j], rule))
				{
					a->word[i].match = j;
					b->word[j].match = i;
				}
}

/* "wi-fi" and "wifi": two words side by side are one of the other. */
static void
match_compounds(txt_mwords *a, txt_mwords *b)
{
	for (int i = 0; i + 1 < a->n; i++)
		for (int j = 0; j < b->n; j++)
		{
			txt_mword  *x = &a->word[i],
					   *y = &a->word[i + 1],
					   *z = &b->word[j];

			if (x->match < 0 && y->match < 0 && z->match < 0 && z->len == x->len + y->len && !x->number && !y->number &&
				memcmp(z->text, x->text, x->len) == 0 && memcmp(z->text + x->len, y->text, y->len) == 0)
			{
				x->match = y->match = j;
				z->match = i;
			}
		}
}

/* A word again that has a match already: "which author wrote". */
static bool
repeats(const txt_mwords *q, const txt_mword *w)
{
	for (const txt_mword *o = q->word; o < q->word + q->n; o++)
		if (o != w && o->match >= 0 && !o->number && (match(o, w, BY_STEM) || (!w->name && match(o, w, BY_MEANING))))
			return true;
	return false;
}

/* A loose word of the other's question that is the opposite: on, for an off that has no match. */
static const txt_mword *
opposite_of(const txt_mword *w, const txt_mwords *other)
{
	for (const txt_mword *o = other->word; o < other->word + other->n; o++)
		if (o->match < 0 && w->entry->opposite != 0 && (w->entry->opposite ^ 1) == o->entry->opposite)
			return o;
	return NULL;
}

/* un-able, in-active, dis-connect, non-: one with a prefix that denies, the other without. */
static const txt_mword *
denied(const txt_mword *w, const txt_mwords *other)
{
	static const char *const prefixes[] = {"un", "in", "im", "il", "ir", "dis", "non", "mis", "de", "anti", "counter"};

	for (const txt_mword *o = other->word; o < other->word + other->n; o++)
		for (size_t k = 0; k < sizeof(prefixes) / sizeof(*prefixes); k++)
		{
			size_t		n = strlen(prefixes[k]);
			const txt_mword *longer = w->len > o->len ? w : o;
			txt_mword	rest = *longer;

			if (o->match >= 0 || longer->len < n + 3 || memcmp(longer->text, prefixes[k], n) != 0)
				continue;
			rest.text += n;
			rest.len -= n;
			if (same_stem(&rest, longer == w ? o : w, false))
				return o;
		}
	return NULL;
}

/* A loose verb of the other question that is another one than w. */
static const txt_mword *
other_verb(const txt_mwords *q, const txt_mword *w, const txt_mwords *other)
{
	const txt_mword *found = NULL;

	if (w->entry->acts == 0)
		return NULL;
	for (const txt_mword *o = other->word; o < other->word + other->n; o++)
		if (o->entry->acts == w->entry->acts)
			return NULL;
		else if (o->match < 0 && o->entry->acts != 0)
			found = o;
	/* and that is not in q, too */
	for (const txt_mword *o = q->word; found && o < q->word + q->n; o++)
		if (o->entry->acts == found->entry->acts)
			return NULL;
	return found;
}

/* First word of q that stands against its meaning the same as the other question. */
static bool
words_conflict(const txt_mwords *q, const txt_mwords *other, char *conflict)
{
	for (const txt_mword *w = q->word; w < q->word + q->n; w++)
	{
		const txt_mword *o;

		if (w->match < 0 && (o = other_verb(q, w, other)) != NULL)
			return differ(conflict, "word: %.*s against %.*s", shown(w), w->text, shown(o), o->text);
		if (w->match >= 0 || w->number || w->negation || txt_may_be_missing(q, w, other) || repeats(q, w))
			continue;
		if ((o = opposite_of(w, other)) != NULL)
			return differ(conflict, "opposite: %.*s against %.*s", shown(w), w->text, shown(o), o->text);
		if ((o = denied(w, other)) != NULL)
			return differ(conflict, "negation: %.*s against %.*s", shown(w), w->text, shown(o), o->text);
		return differ(conflict, "%s: %.*s only in one", w->name ? "name" : "word", shown(w), w->text);
	}
	return false;
}

/* he against she, my against your, is against was: loose each, but the only difference. */
static bool
lone_conflict(const txt_mwords *a, const txt_mwords *b, char *conflict)
{
	static const char *const sets[][3] = {{"my mine me i our we us", "your yours you", "their them they his him he her she its"},
	{"is are am do does", "was were did had", "will"}, {"his him he", "her she hers", ""}, {"and", "or", ""}};
	const txt_mword *x = NULL,
			   *y = NULL;
	int			k,
				l;

	if (a->n != b->n)
		return false;
	for (int i = 0; i < a->n; i++)
		if (!same_text(&a->word[i], &b->word[i]))
		{
			if (x != NULL)
				return false;
			x = &a->word[i];
			y = &b->word[i];
		}
	/* "how do I" and "how do you" ask the same */
	if (x == NULL || a->asks == TXT_ASKS_HOW)
		return false;
	for (size_t s = 0; s < sizeof(sets) / sizeof(*sets); s++)
	{
		for (k = 0; k < 3 && !txt_listed(sets[s][k], x); k++)
			;
		for (l = 0; l < 3 && !txt_listed(sets[s][l], y); l++)
			;
		if (k < 3 && l < 3 && k != l)
			return differ(conflict, "word: %.*s against %.*s", shown(x), x->text, shown(y), y->text);
	}
	return false;
}

mr_code
txt_meaning_conflict(const mr_env *env, const char *a, size_t a_len, const char *b, size_t b_len,
					 char conflict[TXT_MAX_CONFLICT], mr_status *st)
{
	txt_mwords	p = {0},
				q = {0};
	mr_code		code;
	char		with_one[TXT_MAX_CONFLICT];

	conflict[0] = '\0';
	if (a_len == b_len && memcmp(a, b, a_len) == 0)
		return MR_OK;
	if ((code = txt_cut_question(env, a, a_len, &p, st)) == MR_OK &&
		(code = txt_cut_question(env, b, b_len, &q, st)) == MR_OK)
	{
		if (p.too_long || q.too_long)
			differ(conflict, "too long to be compared");
		else if (!same_numbers(&p, &q, true, with_one) && !same_numbers(&p, &q, false, conflict))
			;
		else if (p.negations != q.negations)
			differ(conflict, "negation: %d against %d", p.negations, q.negations);
		else
		{
			conflict[0] = '\0';
			match_words(&p, &q);
			match_compounds(&p, &q);
			match_compounds(&q, &p);
			if (!txt_asks_conflict(&p, &q, conflict) && !words_conflict(&p, &q, conflict) && !words_conflict(&q, &p, conflict) &&
				!lone_conflict(&p, &q, conflict))
				(void) txt_order_conflict(&p, &q, conflict);
		}
	}
	txt_free_question(env, &p);
	txt_free_question(env, &q);
	return code;
}
