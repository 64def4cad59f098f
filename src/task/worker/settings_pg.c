/*
 * settings_pg.c
 *	  A foreign server of wrapper millrace_http and the current user's mapping, as a worker needs them.
 *
 * Strings lie in a context of their own; what was secret in it is wiped before
 * it is reset.  Changes of servers and mappings are heard by invalidation.
 */
#include "postgres.h"

#include "task/worker/worker.h"

#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/syscache.h"

#include "task/http.h"
#include "task/worker/options_pg.h"
#include "task/worker/secret_pg.h"

#define BODY_BUDGET (256 << 20) /* bytes of answers kept at once; one larger than what is left waits in the network */

static bool stale = true;

static void
note_change(Datum arg, int cache, uint32 hash)
{
	stale = true;
}

bool
tsk_settings_stale(void)
{
	return stale;
}

void
tsk_load_settings(const char *name, tsk_settings *s)
{
	static bool listening = false;
	ForeignServer *server;
	List	   *mapping;
	MemoryContext old;

	if (!listening)
	{
		CacheRegisterSyscacheCallback(FOREIGNSERVEROID, note_change, (Datum) 0);
		CacheRegisterSyscacheCallback(USERMAPPINGOID, note_change, (Datum) 0);
		listening = true;
	}
	stale = false;
	server = mr_use_server(name, "millrace_http");
	mapping = mr_mapping_options(server);

	tsk_wipe_store(&s->store);
	MemoryContextReset(s->cxt);
	old = MemoryContextSwitchTo(s->cxt);
	tsk_read_store(server->options, mapping, tsk_secret(mapping, "secret_key"), &s->store);
	s->concurrency = (int) tsk_whole_option(server->options, "concurrency");
	s->max_attempts = (int) tsk_whole_option(server->options, "max_attempts");
	s->backoff_ms = (int) tsk_whole_option(server->options, "backoff_ms");
	s->batch_timeout_ms = (int) tsk_whole_option(server->options, "batch_timeout_ms");
	memset(&s->net, 0, sizeof(s->net));
	s->net.connections = s->concurrency;
	s->net.budget = BODY_BUDGET;
	tsk_read_net(server, &s->net);
	MemoryContextSwitchTo(old);
}
