/*
 * call_judge_pg.c
 *	  What a provider's answer comes to: a result, or an error for the policies.
 *
 * Statuses and broken calls mean what they mean to every HTTP worker
 * (outcome.c); what a good status brought is taken apart by its dialect, and
 * malformed (22032) where that cannot be.  An answer that was cut at max_tokens
 * is a result, and says so in "finish".
 *
 * limits.h is told whether the provider is well: it answered; it answered
 * nothing or that it has too much to do; or the call's limit of time was its
 * own and tells nothing.
 *
 * Memory: the task's context.
 */
#include "postgres.h"

#include "task/worker/call.h"

#include "mb/pg_wchar.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "core/core_pg.h"
#include "core/process_pg.h"
#include "task/worker/outcome.h"

#define MALFORMED "22032"		/* invalid_json_text */

/* A server that repeats our keys shall not make them known: neither by its errors nor by what it answers. */
static void
blot_secrets(const tsk_provider *p, tsk_transfer *t)
{
	const char *const secrets[] = {p->api_key, p->store.secret_key, p->store.session_token};

	if (p->stores && t->status >= 200 && t->status <= 299)
		return;					/* an object is what it is */
	for (int i = 0; i < (int) lengthof(secrets); i++)
		if (secrets[i] && t->len > 0)
			tsk_dialect_blot(t->body, t->len, secrets[i]);
}

/* A server's words as this database has them. */
static char *
plain_words(const char *words)
{
	return GetDatabaseEncoding() == PG_UTF8 && pg_verify_mbstr(PG_UTF8, words, (int) strlen(words), true) ? pstrdup(words) : mr_plain(words);
}

static void
fail(tsk_errand *errand, const char *sqlstate, const char *words)
{
	tsk_task   *task = errand->task;

	task->ok = false;
	strlcpy(task->sqlstate, sqlstate, sizeof(task->sqlstate));
	task->error = psprintf("provider \"%s\": %s", errand->provider->queue->name, plain_words(words));
}

/* Tokens and what they cost. */
static void
note_use(tsk_errand *errand, const tsk_dialect_answer *answer)
{
	tsk_task   *task = errand->task;

	task->tokens_in = answer->tokens_in;
	task->tokens_out = answer->tokens_out;
	if (answer->tokens_in >= 0 || answer->tokens_out >= 0)
		task->cost = (Max(answer->tokens_in, 0) + (double) Max(answer->tokens_out, 0)) * errand->provider->limits.cost_per_1k / 1000;
}

/* A model's answer of a good status. */
static void
read_answer(tsk_errand *errand)
{
	const tsk_transfer *t = errand->transfer;
	bool		vectors = strcmp(errand->task->base, "embed") == 0;
	mr_env		env = mr_pg_env(CurrentMemoryContext);
	tsk_dialect_answer answer = {0};
	mr_status	st;

	if (tsk_dialect_read(&errand->request, t->body ? t->body : "", t->len, &env, &answer, &st) != MR_OK)
	{
		if (st.code == MR_NOMEM || st.code == MR_CANCELED)
			mr_pg_raise(&st);
		fail(errand, MALFORMED, psprintf("malformed answer: %s", st.message));
		return;
	}
	PG_TRY();
	{
		note_use(errand, &answer);
		errand->task->result = vectors ? tsk_embed_result(errand, &answer) : tsk_llm_result(errand, &answer);
		errand->task->ok = true;
	}
	PG_FINALLY();
	{
		free(answer.text);
		free(answer.vectors);
	}
	PG_END_TRY();
}

static void
read_error(tsk_errand *errand)
{
	const tsk_transfer *t = errand->transfer;
	char		said[400];
	tsk_outcome o;

	tsk_judge(t, &o);
	if (t->cut == TSK_WHOLE && !errand->provider->stores)
	{
		tsk_dialect_error(t->body ? t->body : "", t->len, said, sizeof(said));
		fail(errand, o.sqlstate, psprintf("the server answered %d%s%s", t->status, said[0] ? ": " : "", said));
	}
	else
		fail(errand, o.sqlstate, o.error);
}

/* Is the provider unwell: no answer, or that it is overloaded?  A call that we cut short says nothing. */
static tsk_health
health_of(const tsk_errand *errand, const tsk_policy *policy)
{
	const tsk_transfer *t = errand->transfer;

	if (errand->task->cancelled || (t->cut == TSK_SLOW && errand->cut_short) || t->cut == TSK_REFUSED || t->cut == TSK_MEMORY)
		return TSK_UNKNOWN;
	if (t->cut != TSK_WHOLE && t->cut != TSK_LARGE)
		return TSK_ILL;
	return t->status >= 500 || (policy && policy->slow_down) ? TSK_ILL : TSK_WELL;
}

/* What was used of its limits: -1, as estimated, unless the provider said, or refused. */
static int
used_tokens(const tsk_errand *errand)
{
	const tsk_task *task = errand->task;

	if (task->tokens_in >= 0 || task->tokens_out >= 0)
		return Max(task->tokens_in, 0) + Max(task->tokens_out, 0);
	return errand->transfer->cut == TSK_WHOLE && errand->transfer->status >= 400 ? 0 : -1;
}

static void
tell_limits(const tsk_lane *lane, tsk_errand *errand)
{
	const tsk_task *task = errand->task;
	const tsk_policy *policy = task->ok ? NULL : tsk_policy_of(lane, task->status, task->sqlstate);
	int64		most_us = policy ? (int64) (policy->max_s * 1e6) : 0;

	if (errand->admitted && task->retry_after_us > 0 && policy && policy->slow_down)
		tsk_limits_hold(errand->pass.provider, tsk_now() + Min(task->retry_after_us, most_us));
	tsk_give_back(errand, used_tokens(errand), health_of(errand, policy), policy && policy->slow_down);
}

/* Its transfer has ended: what that means goes into its task. */
void
tsk_judge_errand(const tsk_lane *lane, tsk_errand *errand)
{
	tsk_task   *task = errand->task;
	const tsk_transfer *t = errand->transfer;
	MemoryContext old = MemoryContextSwitchTo(task->cxt);

	blot_secrets(errand->provider, errand->transfer);
	task->status = t->status;
	task->retry_after_us = t->retry_after_ms * 1000;
	PG_TRY();
	{
		if (t->cut != TSK_WHOLE || t->status < 200 || t->status > 299)
			read_error(errand);
		else if (strcmp(task->base, "fetch") == 0)
		{
			task->result = tsk_fetch_result(errand);
			task->ok = true;
		}
		else
			read_answer(errand);
	}
	PG_CATCH();
	{
		ErrorData  *error;

		MemoryContextSwitchTo(task->cxt);
		error = CopyErrorData();
		if (ERRCODE_TO_CATEGORY(error->sqlerrcode) == ERRCODE_OPERATOR_INTERVENTION)
			PG_RE_THROW();
		FlushErrorState();
		fail(errand, unpack_sql_state(error->sqlerrcode), error->message ? error->message : "unknown error");
	}
	PG_END_TRY();
	tell_limits(lane, errand);
	MemoryContextSwitchTo(old);
}
