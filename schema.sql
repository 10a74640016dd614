-- The table of Posture Farm, for PostgreSQL 15+ and Supabase. May be applied again at any time: a table of the
-- first deployments gets the columns that it lacks, and its rows stay as they are.
--   psql "$POSTURE_DATABASE_URL" -v ON_ERROR_STOP=1 -f schema.sql
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
    -- a frame without a verdict has no angles
    ALTER COLUMN neck_angle DROP NOT NULL,
    ALTER COLUMN body_angle DROP NOT NULL;

-- Old rows have no frame_id; nulls are distinct, so a plain index does (a partial one would not serve ON CONFLICT
-- over REST).
CREATE UNIQUE INDEX IF NOT EXISTS posture_log_frame ON posture_log (pi_id, frame_id);
CREATE INDEX IF NOT EXISTS posture_log_boot ON posture_log (pi_id, boot_id, seq);
CREATE INDEX IF NOT EXISTS posture_log_received ON posture_log (received_time);

-- What the table has of a camera's boot. Supabase's REST interface can't count different values by itself. Row level
-- security binds whoever calls it.
CREATE OR REPLACE FUNCTION posture_log_sequences(of_pi_id text, of_boot_id text)
RETURNS TABLE (low bigint, high bigint, number bigint) LANGUAGE sql STABLE AS $$
    SELECT min(seq), max(seq), count(DISTINCT seq) FROM posture_log WHERE pi_id = of_pi_id AND boot_id = of_boot_id
$$;

-- Without row level security anyone with Supabase's public key reads everybody's rows. No policy is made: the
-- analyzer uses the secret key (service_role), which row level security does not bind; the table's owner neither.
-- A policy for INSERT alone would not do for another role: ON CONFLICT DO NOTHING reads, too.
ALTER TABLE posture_log ENABLE ROW LEVEL SECURITY;

-- Row level security does not bind TRUNCATE, TRIGGER and REFERENCES, and Supabase grants all rights on a new table and
-- function to the roles of the public key: here they have none. Grant again what a page of yours reads.
REVOKE ALL ON posture_log FROM PUBLIC;
REVOKE ALL ON FUNCTION posture_log_sequences FROM PUBLIC;
DO $$
DECLARE
    public_role text;
BEGIN
    FOR public_role IN SELECT rolname FROM pg_roles WHERE rolname IN ('anon', 'authenticated') LOOP
        EXECUTE format('REVOKE ALL ON posture_log FROM %I', public_role);
        EXECUTE format('REVOKE ALL ON FUNCTION posture_log_sequences FROM %I', public_role);
    END LOOP;
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'service_role') THEN
        GRANT SELECT, INSERT, UPDATE, DELETE ON posture_log TO service_role;
        GRANT EXECUTE ON FUNCTION posture_log_sequences TO service_role;
    END IF;
END
$$;

COMMIT;

-- Supabase's REST interface looks at the columns anew; nobody else listens.
NOTIFY pgrst, 'reload schema';
