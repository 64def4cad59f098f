/*
 * settings_pg.c
 *	  A foreign server of wrapper millrace_http and the current user's mapping, as a worker needs them.
 *
 * Strings lie in a context of their own; what was secret in it is wiped before
 * it is reset.  Changes of servers and mappings are heard by invalidation.
 */
#include "postgres.h"

#include "task/worker/worker.h"

#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/syscache.h"

#include "core/address.h"
#include "task/http.h"
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

/* Value of an option, what stands for it where it is not given, or NULL. */
static const char *
text_option(List *from, const char *name)
{
	const char *value = mr_option_value(from, name);

	for (int i = 0; value == NULL && i < TSK_N_OPTIONS; i++)
		if (strcmp(tsk_options[i].name, name) == 0)
			value = tsk_options[i].fallback;
	return value;
}

static int64
number_option(List *from, const char *name)
{
	return pg_strtoint64(text_option(from, name));
}

static bool
is_true(List *from, const char *name)
{
	return strcmp(text_option(from, name), "true") == 0;
}

static char *
keep(const char *text)
{
	return text ? pstrdup(text) : NULL;
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

	tsk_wipe(s->store.secret_key);
	tsk_wipe(s->store.session_token);
	memset(&s->store, 0, sizeof(s->store));
	MemoryContextReset(s->cxt);
	old = MemoryContextSwitchTo(s->cxt);
	s->store.url = keep(text_option(server->options, "url"));
	s->store.region = keep(text_option(server->options, "region"));
	s->store.virtual_hosts = strcmp(text_option(server->options, "addressing"), "virtual") == 0;
	s->store.access_key = keep(text_option(mapping, "access_key"));
	s->store.secret_key = tsk_secret(mapping, "secret_key");
	s->store.session_token = keep(text_option(mapping, "session_token"));
	s->concurrency = (int) number_option(server->options, "concurrency");
	s->max_attempts = (int) number_option(server->options, "max_attempts");
	s->backoff_ms = (int) number_option(server->options, "backoff_ms");
	s->batch_timeout_ms = (int) number_option(server->options, "batch_timeout_ms");
	memset(&s->net, 0, sizeof(s->net));
	s->net.connections = s->concurrency;
	s->net.connect_timeout_ms = (int) number_option(server->options, "connect_timeout_ms");
	s->net.timeout_ms = (int) number_option(server->options, "timeout_ms");
	s->net.low_speed_bytes = number_option(server->options, "low_speed_bytes");
	s->net.low_speed_ms = (int) number_option(server->options, "low_speed_ms");
	s->net.max_bytes = number_option(server->options, "max_bytes");
	s->net.budget = BODY_BUDGET;
	s->net.ca_pem = keep(text_option(server->options, "ssl_ca_pem"));
	s->net.ca_location = keep(text_option(server->options, "ssl_ca_location"));
	s->net.verify = is_true(server->options, "ssl_verify");
	if (!mr_private_allowed(server))
		s->net.refuses = mr_private_address;
	MemoryContextSwitchTo(old);
}
