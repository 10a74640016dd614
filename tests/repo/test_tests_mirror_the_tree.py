"""Every module has a test of its own name in tests/unit, or one that covers it is named here."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TESTS = ROOT / "tests"
LIFE = "cluster/life_of_a_farm/test_life_of_a_farm.py"
GONE = "cluster/life_of_a_farm/test_streams_that_are_gone.py"
IN_CLUSTER = "cluster/life_of_a_farm/test_farm_in_cluster.py"
SETUP = "cluster/test_setup_farm.py"
UP, DOWN, PATCH = "scripts/test_build_and_push.py", "scripts/test_stop.py", "scripts/test_patch_scaledjob.py"
SCALER, LOCAL = "scripts/test_cpu_monitor_and_offload.py", "scripts/test_run_local.py"
HISTORY_PAGES = "browser/test_history_pages.py"
STREAMS_PAGE = "browser/test_streams_page.py"
REPORT = "scripts/test_report.py"
HISTORY = "unit/history/test_questions.py"
CONTRACT, MANIFESTS, LOADING = (
    "unit/store/test_store.py",
    "unit/manifests/test_scaled_job.py",
    "unit/settings/test_loading.py",
)

COVERED_BY = {
    "lifecycle/setup/cameras": SETUP,
    "lifecycle/setup/checks": SETUP,
    "lifecycle/setup/kept": SETUP,
    "lifecycle/setup/objects": SETUP,
    "lifecycle/setup/plan": SETUP,
    "lifecycle/setup/survey": SETUP,
    "lifecycle/setup/undoing": SETUP,
    "dashboard/figures": "repo/test_grafana.py",
    "analyzer/calibration": "unit/analyzer/test_app.py",
    "analyzer/delivery": "unit/analyzer/test_commit.py",
    "analyzer/reused_ids": "unit/analyzer/test_commit.py",
    "analyzer/pipeline": "unit/analyzer/test_app.py",
    "balancer/loop": "cluster/test_balancer_on_cluster.py",
    "balancer/observer": "cluster/test_balancer_on_cluster.py",
    "camera/opencv": "scripts/test_camera_without_opencv.py",
    "camera/tilting": "unit/camera/test_sources.py",
    "camera/video_file": "unit/camera/test_sources.py",
    "dashboard/access": "scripts/test_dashboard_login.py",
    "dashboard/app": STREAMS_PAGE,
    "dashboard/broker": STREAMS_PAGE,
    "dashboard/farm_reader": "browser/test_farm_page.py",
    "dashboard/feed": STREAMS_PAGE,
    "dashboard/history_routes": HISTORY_PAGES,
    "dashboard/live": STREAMS_PAGE,
    "dashboard/logging_in": "scripts/test_dashboard_login.py",
    "dashboard/messages": STREAMS_PAGE,
    "dashboard/pages": STREAMS_PAGE,
    "dashboard/past": HISTORY_PAGES,
    "dashboard/protection": "scripts/test_dashboard.py",
    "dashboard/serving": "scripts/test_dashboard.py",
    "dashboard/sources": STREAMS_PAGE,
    "dashboard/summaries": HISTORY_PAGES,
    "dashboard/words": STREAMS_PAGE,
    "charts/drawing": REPORT,
    "charts/style": REPORT,
    "demo/broker": LOCAL,
    "demo/run": LOCAL,
    "demo/summary": LOCAL,
    "exporter/exposition": "scripts/test_gpu_exporter.py",
    "exporter/source": "unit/exporter/test_jetson.py",
    "health": "scripts/test_health.py",
    "errors": "unit/test_runtime.py",
    "settings/edited": "unit/settings/test_edited_queries.py",
    "history/as_csv": HISTORY,
    "history/days": HISTORY,
    "history/deletion": HISTORY,
    "history/minutes": HISTORY,
    "history/opening": HISTORY,
    "history/postgres": HISTORY,
    "history/reader": HISTORY,
    "history/sqlite": HISTORY,
    "history/stretches": HISTORY,
    "history/supabase": HISTORY,
    "kube/errors": "unit/kube/test_client.py",
    "kube/labels": "cluster/test_balancer_on_cluster.py",
    "kube/ownership": "cluster/life_of_a_farm/test_two_farms.py",
    "kube/taints": "unit/balancer/test_snapshot.py",
    "lifecycle/bring_up": LIFE,
    "lifecycle/broker_access": GONE,
    "lifecycle/removal": GONE,
    "lifecycle/container_images": UP,
    "lifecycle/docker_compose": DOWN,
    "lifecycle/page_and_exporter": IN_CLUSTER,
    "lifecycle/preflight/findings": UP,
    "lifecycle/preflight/machine": UP,
    "lifecycle/preflight/run": UP,
    "lifecycle/registry": UP,
    "lifecycle/rollout": UP,
    "lifecycle/scaler_here": LIFE,
    "lifecycle/scaler_in_cluster": IN_CLUSTER,
    "lifecycle/steps": LIFE,
    "lifecycle/stopping": DOWN,
    "lifecycle/tear_down": LIFE,
    "manifests/checks": MANIFESTS,
    "manifests/files": MANIFESTS,
    "manifests/yaml_nodes": MANIFESTS,
    "planning/draft": "unit/planning/test_offloads.py",
    "planning/model": "unit/planning/test_offloads.py",
    "pictures/base": "unit/pictures/test_bucket.py",
    "pictures/opening": "unit/pictures/test_bucket.py",
    "report/charts": REPORT,
    "report/content": REPORT,
    "report/local_zone": REPORT,
    "report/page": REPORT,
    "report/poster": REPORT,
    "report/tiles": REPORT,
    "report/worst": REPORT,
    "report/writing": REPORT,
    "scaler/metrics": SCALER,
    "settings/gpu_queries": LOADING,
    "settings/parsers": LOADING,
    "settings/limits": LOADING,
    "settings/paths": LOADING,
    "settings/yaml_leaves": LOADING,
    "simulator/heatmap": "scripts/test_simulate.py",
    "simulator/scenario": "scripts/test_simulate.py",
    "store/base": CONTRACT,
    "store/opening": CONTRACT,
    "store/postgres": CONTRACT,
    "store/postgres_connection": CONTRACT,
    "store/sqlite": CONTRACT,
    "store/sqlite_minutes": HISTORY,
    "store/supabase": CONTRACT,
    "store/supabase_connection": CONTRACT,
    "system/children": LOCAL,
    "system/commands": UP,
    "system/probes": SCALER,
    "system/terminal": LOCAL,
    "usage/deadline": "unit/usage/test_prometheus.py",
    "verdict/geometry": "unit/verdict/test_rule_sets.py",
    "verdict/placement": "unit/verdict/test_rule_sets.py",
    "wire/errors": "unit/wire/test_frame.py",
}


def modules() -> list[str]:
    paths = (path.relative_to(ROOT / "posture") for path in (ROOT / "posture").rglob("*.py"))
    return sorted(str(path.with_suffix("")) for path in paths if path.name != "__init__.py")


def own_test(module: str) -> Path:
    path = Path(module)
    return TESTS / "unit" / path.parent / f"test_{path.name}.py"


@pytest.mark.parametrize("module", modules())
def test_a_module_has_its_test(module: str) -> None:
    if own_test(module).exists():
        assert module not in COVERED_BY, "it has a test of its own name by now"
    else:
        assert module in COVERED_BY, f"write {own_test(module).relative_to(ROOT)}, or name the test that covers it"
        assert (TESTS / COVERED_BY[module]).exists()


def test_no_module_is_named_that_is_not_there() -> None:
    assert set(COVERED_BY) <= set(modules())
