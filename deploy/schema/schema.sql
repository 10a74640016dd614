-- The table of Posture Farm, for PostgreSQL 15+ and Supabase. May be applied again at any time: a table of the
-- first deployments gets the columns that it lacks, and its rows stay as they are.
--   psql "$POSTURE_DATABASE_URL" -v ON_ERROR_STOP=1 -f deploy/schema/schema.sql
-- or paste it into Supabase's SQL editor.

BEGIN;

CREATE TABLE IF NOT EXISTS posture_log (
    pi_id text,
    filename text,
    received_time timestamptz,
    analyzed_time timestamptz,
    neck_angle double precision,
    body_angle double precision,
    posture_status text,
    landmarks_detected boolean,
    processed_by text
);

ALTER TABLE posture_log
    ADD COLUMN IF NOT EXISTS frame_id text,
    ADD COLUMN IF NOT EXISTS captured_time timestamptz,
    ADD COLUMN IF NOT EXISTS side text,
    ADD COLUMN IF NOT EXISTS reason text,
    ADD COLUMN IF NOT EXISTS rule_set text,
    ADD COLUMN IF NOT EXISTS landmarks text,
    ADD COLUMN IF NOT EXISTS schema_version integer,
    ADD COLUMN IF NOT EXISTS seq bigint,
    ADD COLUMN IF NOT EXISTS boot_id text,
    ADD COLUMN IF NOT EXISTS picture_sha256 text,
    ADD COLUMN IF NOT EXISTS no_picture text,
    ADD COLUMN IF NOT EXISTS measured_frame_id text,
    -- a frame without a verdict has no angles
    ALTER COLUMN neck_angle DROP NOT NULL,
    ALTER COLUMN body_angle DROP NOT NULL;

-- Old rows have no frame_id; nulls are distinct, so a plain index does (a partial one would not serve ON CONFLICT
-- over REST).
CREATE UNIQUE INDEX IF NOT EXISTS posture_log_frame ON posture_log (pi_id, frame_id);
CREATE INDEX IF NOT EXISTS posture_log_boot ON posture_log (pi_id, boot_id, seq);
CREATE INDEX IF NOT EXISTS posture_log_received ON posture_log (received_time);
CREATE INDEX IF NOT EXISTS posture_log_stream ON posture_log (pi_id, received_time);

-- What the table has of a camera's boot. Supabase's REST interface can't count different values by itself. Row level
-- security binds whoever calls it.
CREATE OR REPLACE FUNCTION posture_log_sequences(of_pi_id text, of_boot_id text)
RETURNS TABLE (low bigint, high bigint, number bigint) LANGUAGE sql STABLE AS $$
    SELECT min(seq), max(seq), count(DISTINCT seq) FROM posture_log WHERE pi_id = of_pi_id AND boot_id = of_boot_id
$$;

-- Minutes: what questions about days and months are answered from, since a month has millions of rows. A trigger counts
-- a row in its minute in the transaction that writes it, so they agree at any time; a frame that comes again makes no
-- row and counts once. minute counts from 1970. ..._seconds is a set of 60 bits, the highest one for second 0: those in
-- which there was such a frame, so that the order in which frames arrive does not matter.
CREATE TABLE IF NOT EXISTS posture_minutes (
    pi_id text NOT NULL,
    minute bigint NOT NULL,
    good_seconds bigint NOT NULL,
    bad_seconds bigint NOT NULL,
    unknown_seconds bigint NOT NULL,
    away_seconds bigint NOT NULL,
    good_frames bigint NOT NULL,
    bad_frames bigint NOT NULL,
    unknown_frames bigint NOT NULL,
    away_frames bigint NOT NULL,
    neck_frames bigint NOT NULL,
    body_frames bigint NOT NULL,
    neck_sum double precision NOT NULL,
    body_sum double precision NOT NULL,
    PRIMARY KEY (pi_id, minute)
) WITH (fillfactor = 70);

-- When a frame was captured, in seconds since 1970: by receipt where the camera has no time, or one that can't be right.
CREATE OR REPLACE FUNCTION posture_second(captured timestamptz, received timestamptz)
RETURNS bigint LANGUAGE sql IMMUTABLE AS $$
    SELECT floor(extract(epoch FROM CASE
        WHEN captured BETWEEN received - interval '168 hours' AND received + interval '1 minute' THEN captured
        ELSE received
    END))::bigint
$$;

-- A frame's state: its verdict; unknown where somebody was seen and there is none, away where nobody was; empty where
-- the frame could not be read.
CREATE OR REPLACE FUNCTION posture_state(status text, landmarks_detected boolean, reason text)
RETURNS text LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE
        WHEN status IN ('Good', 'Bad') THEN lower(status)
        WHEN landmarks_detected THEN 'unknown'
        WHEN coalesce(reason, 'no_person') = 'no_person' THEN 'away'
        ELSE ''
    END
$$;

CREATE OR REPLACE FUNCTION posture_bit(state text, wanted text, second bigint)
RETURNS bigint LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE WHEN state = wanted THEN 1::bigint << (59 - second % 60)::integer ELSE 0 END
$$;

-- Whoever deletes rows deletes their minutes: in one that has lost a row the others would count for too much.
CREATE OR REPLACE FUNCTION posture_minutes_gone() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path FROM CURRENT SET timezone = 'UTC' AS $$
BEGIN
    DELETE FROM posture_minutes USING (
        SELECT DISTINCT pi_id, posture_second(captured_time::timestamptz, received_time::timestamptz) / 60 AS minute
        FROM deleted
    ) AS gone
    WHERE posture_minutes.pi_id = gone.pi_id AND posture_minutes.minute = gone.minute;
    RETURN NULL;
END
$$;

DO $do$
DECLARE
    -- What rows add to their minutes; %s is where the rows are. In one order, so that two writers never wait for
    -- each other.
    counting CONSTANT text := $sql$
        INSERT INTO posture_minutes
        SELECT pi_id, second / 60,
            bit_or(posture_bit(state, 'good', second)), bit_or(posture_bit(state, 'bad', second)),
            bit_or(posture_bit(state, 'unknown', second)), bit_or(posture_bit(state, 'away', second)),
            count(*) FILTER (WHERE state = 'good'), count(*) FILTER (WHERE state = 'bad'),
            count(*) FILTER (WHERE state = 'unknown'), count(*) FILTER (WHERE state = 'away'),
            count(neck_angle), count(body_angle), coalesce(sum(neck_angle), 0), coalesce(sum(body_angle), 0)
        FROM (
            SELECT pi_id, neck_angle, body_angle,
                posture_second(captured_time::timestamptz, received_time::timestamptz) AS second,
                posture_state(posture_status, landmarks_detected, reason) AS state
            FROM %s
        ) AS rows
        WHERE pi_id IS NOT NULL AND second IS NOT NULL
        GROUP BY 1, 2 ORDER BY 1, 2
        ON CONFLICT (pi_id, minute) DO UPDATE SET
            good_seconds = posture_minutes.good_seconds | excluded.good_seconds,
            bad_seconds = posture_minutes.bad_seconds | excluded.bad_seconds,
            unknown_seconds = posture_minutes.unknown_seconds | excluded.unknown_seconds,
            away_seconds = posture_minutes.away_seconds | excluded.away_seconds,
            good_frames = posture_minutes.good_frames + excluded.good_frames,
            bad_frames = posture_minutes.bad_frames + excluded.bad_frames,
            unknown_frames = posture_minutes.unknown_frames + excluded.unknown_frames,
            away_frames = posture_minutes.away_frames + excluded.away_frames,
            neck_frames = posture_minutes.neck_frames + excluded.neck_frames,
            body_frames = posture_minutes.body_frames + excluded.body_frames,
            neck_sum = posture_minutes.neck_sum + excluded.neck_sum,
            body_sum = posture_minutes.body_sum + excluded.body_sum
    $sql$;
BEGIN
    -- It acts with the rights of its owner, who is the table's: who may write rows need not be let through here, too.
    EXECUTE format(
        'CREATE OR REPLACE FUNCTION posture_minutes_counted() RETURNS trigger LANGUAGE plpgsql '
        'SECURITY DEFINER SET search_path FROM CURRENT SET timezone = ''UTC'' AS %L',
        'BEGIN ' || format(counting, 'written') || '; RETURN NULL; END'
    );
    IF NOT EXISTS (
        SELECT FROM pg_trigger WHERE tgrelid = 'posture_log'::regclass AND tgname = 'posture_minutes_counted'
    ) THEN
        -- rows that are there before the triggers are; none can come in between, since writers wait
        LOCK TABLE posture_log IN SHARE ROW EXCLUSIVE MODE;
        TRUNCATE posture_minutes;
        EXECUTE format(counting, 'posture_log');
        CREATE TRIGGER posture_minutes_counted AFTER INSERT ON posture_log
            REFERENCING NEW TABLE AS written FOR EACH STATEMENT EXECUTE FUNCTION posture_minutes_counted();
        CREATE TRIGGER posture_minutes_gone AFTER DELETE ON posture_log
            REFERENCING OLD TABLE AS deleted FOR EACH STATEMENT EXECUTE FUNCTION posture_minutes_gone();
    END IF;
END
$do$;

-- For Supabase's REST interface, which gives no more than 1000 rows at once: a month's minutes as one value.
CREATE OR REPLACE FUNCTION posture_minutes_between(of_pi_id text, first_minute bigint, end_minute bigint)
RETURNS TABLE (number bigint, minutes json) LANGUAGE sql STABLE AS $$
    SELECT count(*), coalesce(json_agg(json_build_array(
        minute, good_seconds, bad_seconds, unknown_seconds, away_seconds, good_frames, bad_frames, unknown_frames,
        away_frames, neck_frames, body_frames, neck_sum, body_sum
    ) ORDER BY minute), '[]')
    FROM posture_minutes WHERE pi_id = of_pi_id AND minute >= first_minute AND minute < end_minute
$$;

-- The streams, from name to name by the primary key: DISTINCT would read every minute.
CREATE OR REPLACE FUNCTION posture_streams()
RETURNS TABLE (pi_id text, first_minute bigint, last_minute bigint) LANGUAGE sql STABLE AS $$
    WITH RECURSIVE names AS (
        (SELECT m.pi_id FROM posture_minutes AS m ORDER BY m.pi_id LIMIT 1)
        UNION ALL
        SELECT (SELECT m.pi_id FROM posture_minutes AS m WHERE m.pi_id > names.pi_id ORDER BY m.pi_id LIMIT 1)
        FROM names WHERE names.pi_id IS NOT NULL
    )
    SELECT names.pi_id,
        (SELECT min(m.minute) FROM posture_minutes AS m WHERE m.pi_id = names.pi_id),
        (SELECT max(m.minute) FROM posture_minutes AS m WHERE m.pi_id = names.pi_id)
    FROM names WHERE names.pi_id IS NOT NULL
$$;

-- Without row level security anyone with Supabase's public key reads everybody's rows. No policy is made: the
-- analyzer uses the secret key (service_role), which row level security does not bind; the table's owner neither.
-- A policy for INSERT alone would not do for another role: ON CONFLICT DO NOTHING reads, too.
ALTER TABLE posture_log ENABLE ROW LEVEL SECURITY;
ALTER TABLE posture_minutes ENABLE ROW LEVEL SECURITY;

-- Row level security does not bind TRUNCATE, TRIGGER and REFERENCES, and Supabase grants all rights on a new table and
-- function to the roles of the public key: here they have none. Grant again what a page of yours reads.
DO $$
DECLARE
    role_name text;
    functions CONSTANT text := 'posture_log_sequences, posture_minutes_between, posture_streams, posture_second, '
        'posture_state, posture_bit, posture_minutes_counted, posture_minutes_gone';
BEGIN
    FOR role_name IN
        SELECT 'PUBLIC' UNION ALL
        SELECT quote_ident(rolname) FROM pg_roles WHERE rolname IN ('anon', 'authenticated')
    LOOP
        EXECUTE format('REVOKE ALL ON posture_log, posture_minutes FROM %s', role_name);
        EXECUTE format('REVOKE ALL ON FUNCTION %s FROM %s', functions, role_name);
    END LOOP;
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'service_role') THEN
        GRANT SELECT, INSERT, UPDATE, DELETE ON posture_log TO service_role;
        GRANT SELECT ON posture_minutes TO service_role;
        GRANT EXECUTE ON FUNCTION posture_log_sequences, posture_minutes_between, posture_streams TO service_role;
    END IF;
END
$$;

COMMIT;

-- Supabase's REST interface looks at the columns anew; nobody else listens.
NOTIFY pgrst, 'reload schema';
