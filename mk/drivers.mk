# What a newcomer types.  Each installs what is missing, so none needs PostgreSQL to be there yet.

.PHONY: check check-full check-debian soak mutants demo demo-events demo-answers demo-datasets bench models help
check:
	@tools/check $(T)
check-full:
	@tools/check --full $(T)
# The tests print their faults as they come into tmp/check/log/t_test_stream_faults.py.log
soak:
	@MILLRACE_SOAK=1 tools/check $(or $(T),test_stream_faults.py test_stream_outbox_faults.py)
mutants:
	@MILLRACE_MUTANTS=1 tools/check $(M)
check-debian:
	@tools/check-debian $(SUITE)
demo:
	@tools/demo
demo-events:
	@tools/demo-events
demo-datasets:
	@tools/demo-datasets
demo-answers:
	@tools/demo-answers $(D)
models:
	@tools/setup models
	@tools/models
help:
	@echo 'make demo                 photos through Kafka into predictions, on a private cluster under tmp/'
	@echo '     demo PHOTOS=folder   with other photos;  BROKERS=host:port: with a real Kafka'
	@echo '     demo ONCE=1          without the dashboard, which stays up until Ctrl-C;  KEEP=1: leave all of it running'
	@echo 'make demo-datasets        photos with boxes and the faults data sets have, audited, mended, exported;  DATASET=folder, KEEP as above'
	@echo 'make demo-events          texts through Kafka into moods, topics and key words;  EVENTS=n, BROKERS, KEEP as above'
	@echo 'make demo-answers         four demonstrations of questions and answers;  D=normal, overload, regeneration or cache: one of them'
	@echo 'make check                build and run every test;  T="stream unit": only those with such a name'
	@echo 'make check-full           the same and the long ones'
	@echo 'make soak                 an hour of faults: 2,000,000 messages in, 200,000 out (MILLRACE_SEED=n repeats a run)'
	@echo 'make mutants              does the suite notice mistakes made on purpose?  M="3 8": only these'
	@echo 'make check-debian SUITE=trixie   build and regress suite in a fresh Debian of that name (root)'
	@echo 'make models               fetch the usual text encoder; import it as minilm into the database of PGHOST, PGDATABASE …'
	@echo 'make bench                side by side with the usual Python services'
	@echo 'make unit                 the server-less tests alone'
	@echo 'make, make install        as any extension (PG_CONFIG=... chooses the PostgreSQL)'
bench:
	@tools/bench $(B)
