"""Mutation tests: small mistakes that a careless change of the code would make, and the tests that must notice each.

Run ``python tests/mutants.py [--only NAME ...] [--list]`` before and after a redesign: it changes one snippet at a time in
a copy of the repository and runs the tests named beside it there. A snippet is looked for in all files of the package and
must stand there once; where it is gone or no longer alone the mutant is stale, and has to be written anew.

Before flow.py became a folder: 114 mutants, 108 caught. Now: 174, 172 of them caught. A new one that no test sees is marked
`survives=True`.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "lowrankflow"
TIMEOUT = 120.0  # seconds after which a mutant that hangs counts as caught
OUTCOMES = {0: "SURVIVED", 1: "caught"}  # by the exit status of pytest; any other says that no test could run


class Mutant(NamedTuple):
    """A mistake, and the tests that must fail because of it."""

    name: str
    old: str  #: a snippet that stands once in the package
    new: str
    tests: str  #: ids below tests/, separated by spaces
    survives: bool = False  #: whether no test notices it so far


MUTANTS = [
    # -- biases ------------------------------------------------------------------------------------------------------
    Mutant("no-bias-term", "- w @ w.T - (0.0 if b is None else np.outer(b, b))", "- w @ w.T",
           "test_affine.py::test_what_the_flow_conserves_has_the_bias_term"),
    Mutant("constants-move", "return g if self._free is None else self._free * g", "return g",
           "test_affine.py::test_the_flow_is_that_of_the_chain_rule"),
    Mutant("modified-constants", "(turned if self._free is None else self._free * turned)", "turned",
           "test_affine.py::test_descent_and_what_it_shadows"),
    Mutant("frozen-units-count", "np.flatnonzero(~(a.any(axis=1) | b.any(axis=0)))", "np.flatnonzero(~a.any(axis=1) | True)",
           "test_affine.py::test_frozen_layers_lose_their_conservation_law_and_no_other"),
    Mutant("kernel-of-a-missing-bias", "[b[:-1] if bias is None else b for", "[b for",
           "test_affine.py::test_the_tangent_kernel_is_that_of_weights_and_biases"),
    Mutant("bias-left-of-centre", "y - np.outer(y @ e, e), float(", "y, float(",
           "test_affine.py::test_the_loss_is_that_on_centred_data_and_a_square"),
    Mutant("hidden-biases-are-regular", "(it.network.shape[0] / 2 if isinstance(it, AffinePatient) else 0.0)", "0.0",
           "test_affine.py::test_the_learning_coefficient_has_the_last_bias"),
    Mutant("balanced-with-biases", "yes[it.imbalance <= _BALANCED and not affine]", "yes[it.imbalance <= _BALANCED]",
           "test_affine.py::test_the_numbers_are_those_of_dense_formulas"),
    Mutant("kernels-as-they-are", 'np.ascontiguousarray(weight.T) if role == "kernel" else weight', "weight",
           "test_network_doors.py::test_layouts_are_told_by_names"),
    Mutant("tree-in-the-order-of-the-alphabet", 'lambda m: "\\0" + m[1].zfill(20)', "lambda m: m[0]",
           "test_network_doors.py::test_numbers_in_names_are_numbers"),
    Mutant("untold-overflow", 'if kind in ("float16", "bfloat16") and', "if False and",
           "test_network_doors.py::test_trees_that_are_no_chain"),
    Mutant("constant-not-appended", "make.fit(losses.with_constant(inputs) if biased else inputs, targets)",
           "make.fit(inputs, targets)", "test_affine.py::test_at_the_command_line"),
    # -- arguments, files --------------------------------------------------------------------------------------------
    Mutant("depth-one", "if number <= 1:", "if number < 1:", "test_metrics.py::test_depth_one_is_refused"),
    Mutant(
        "transpose-hint",
        "if tuple(got) == tuple(want)[::-1] else",
        "if tuple(got) == tuple(want) else",
        "test_errors.py::test_a_wrong_shape_is_said_with_the_transpose_hint",
    ),
    Mutant(
        "first-bad-index",
        "np.argwhere(~finite)[0]",
        "np.argwhere(finite)[0]",
        "test_errors.py::test_values_that_are_not_finite_are_counted_and_located",
    ),
    Mutant(
        "bool-is-whole",
        "if isinstance(value, bool) or not isinstance(value, numbers.Integral):",
        "if not isinstance(value, numbers.Integral):",
        "test_errors.py::test_a_wrong_call_gets_its_message",
    ),
    Mutant(
        "file-mode",
        "os.chmod(temporary, _mode(target))",
        "_mode(target)",
        "test_html_report.py::test_the_page_is_small_and_readable_by_others",
    ),
    Mutant("half-file-left", "Path(temporary).unlink(missing_ok=True)", "pass", "test_flow.py::test_saving_is_atomic"),
    Mutant(
        "living-orphans",
        "pid.isdecimal() and not _alive(int(pid))",
        "pid.isdecimal()",
        "test_checkpoint.py::test_only_files_of_dead_writers_to_the_same_path_are_removed",
    ),
    # -- matrices ----------------------------------------------------------------------------------------------------
    Mutant(
        "frame-signs", "np.where(np.diag(r) < 0, -1.0, 1.0)", "np.ones(k)", "test_matrices.py::test_frames_are_uniform"
    ),
    Mutant(
        "widest-layer",
        "1 + widths.index(min(widths))",
        "1 + widths.index(max(widths))",
        "test_flow.py::test_columns_of_a_network",
    ),
    Mutant(
        "difference-sign",
        "return self._plus(other, -1.0)",
        "return self._plus(other, 1.0)",
        "test_matrices.py::test_product_arithmetic",
    ),
    Mutant("rebalanced-frames", "new = p @ qt", "new = p", "test_matrices.py::test_rebalanced_is_idempotent"),
    Mutant(
        "symmetrised-frame",
        "frame = (self.up + self.vp) / 2",
        "frame = self.up",
        "test_quotients.py::test_symmetric_gradient_by_slope",
    ),
    # -- metrics -----------------------------------------------------------------------------------------------------
    Mutant(
        "chart-rate",
        "rate = l ** (self.depth - 2)",
        "rate = l ** (self.depth - 1)",
        "test_charts.py::test_velocity_of_the_singular_frame",
    ),
    Mutant(
        "frame-rate",
        "else s ** (1 - 2 / self.depth)",
        "else s ** (2 - 2 / self.depth)",
        "test_metrics.py::test_special_root_coefficients_agree_with_the_generic_ones",
    ),
    Mutant(
        "real-depth-summed",
        "if depth <= _SUM_TERMS and depth == int(depth):",
        "if depth <= _SUM_TERMS:",
        "test_metrics.py::test_depth_coefficients_have_all_their_digits",
    ),
    Mutant(
        "row-space-count",
        "np.repeat(self.vp, n - r)",
        "np.repeat(self.vp, m - r)",
        "test_quotients.py::test_spectrum_is_that_of_the_dense_operator",
    ),
    Mutant(
        "mix-solve",
        "along, across = (c * m + s * m.T)",
        "along, across = (c * m - s * m.T)",
        "test_metrics.py::test_solve_inverts_apply",
    ),
    Mutant(
        "lambda-outer",
        'outer_r = r + size if self.hidden == "rows" else r',
        "outer_r = r",
        "test_quotients.py::test_gradient_is_that_of_the_factors",
    ),
    Mutant(
        "normal-differences",
        "second[:-1, -1, -1] = second[-1, :-1, -1] = first[:-1, -1] / x",
        "pass",
        "test_metrics.py::test_differences_of_the_imbalanced_coefficients",
    ),
    # -- losses ------------------------------------------------------------------------------------------------------
    Mutant(
        "sum-curvature",
        "float(sum(c * bound for c, bound",
        "float(sum(bound for c, bound",
        "test_measured.py::test_what_a_sum_says_of_itself",
    ),
    Mutant(
        "sum-weights",
        "OperatorSum(*(Multiple(part, c) for",
        "OperatorSum(*(Multiple(part, 1.0) for",
        "test_measured.py::test_sums_of_values_gradients_and_hessians",
    ),
    Mutant(
        "sum-fixed-rank",
        "any(term.fixed_rank",
        "all(term.fixed_rank",
        "test_measured.py::test_what_a_sum_says_of_itself test_spectral_losses.py",
    ),
    Mutant(
        "measured-mean",
        "self._map.adjoint(r if self._weight == 1.0 else self._weight * r)",
        "self._map.adjoint(r)",
        "test_measured.py::test_squared_inputs_are_least_squares",
    ),
    Mutant(
        "measured-order",
        "else (other, sorted_misfit)",
        "else (other, misfit)",
        "test_measured.py::test_squared_entries_are_completion",
    ),
    Mutant(
        "completion-hessian",
        'self._weighted(self._entries("z", z))',
        "self._weighted(self._residual(z))",
        "test_losses.py::test_hessian_by_differences",
    ),
    Mutant(
        "completion-shared",
        "residual -= self.values",
        "residual = self.values - residual",
        "test_losses.py::test_completion_against_a_dense_mask",
    ),
    Mutant(
        "compressed-constant",
        "self._constant = 0.5 * float(linalg.norm(y - yq @ q.T) ** 2)",
        "self._constant = 0.0",
        "test_losses.py::test_least_squares_against_the_dense_formula",
    ),
    Mutant(
        "best-value",
        "(self.spectrum.sigma[rank:] ** 2).sum()",
        "(self.spectrum.sigma[rank + 1 :] ** 2).sum()",
        "test_losses.py::test_best_value",
    ),
    Mutant("logarithm-gradient", "Multiple(g, 1.0 / size)", "Multiple(g, 1.0)", "test_separation.py::test_logarithm"),
    # -- gradients, Hessians, geodesics ------------------------------------------------------------------------------
    Mutant(
        "product-rule-order",
        "value, slope = f @ value, f @ slope + e @ value",
        "value = f @ value; slope = f @ slope + e @ value",
        "test_gradients.py::test_pullback_is_the_adjoint_of_the_product_rule",
    ),
    Mutant(
        "convert-symmetric",
        "return target.coefficients(w.s).apply(z.symmetrised() if is_symmetric(target) else z)",
        "return target.coefficients(w.s).apply(z)",
        "test_quotients.py::test_conversion_to_and_from_the_symmetric_metric",
    ),
    Mutant(
        "hessian-sign",
        "- a.derivative(self._rgrad, p)",
        "+ a.derivative(self._rgrad, p)",
        "test_hessians.py::test_hessian_is_the_second_derivative_of_the_factors_loss_along_the_lift",
    ),
    Mutant(
        "hessian-frames",
        "self._up = s[:, None] * d[:r, r, :r]",
        "self._up = d[:r, r, :r]",
        "test_hessians.py::test_hessian_is_the_second_derivative_of_the_factors_loss_along_the_lift",
    ),
    Mutant(
        "mix-product-rule",
        "+ self.s[:, None] * (p.core.T @ z.core + p.up.T @ z.up)",
        "+ self.s[:, None] * (p.core.T @ z.core)",
        "test_hessians.py::test_hessian_is_the_covariant_one",
    ),
    Mutant(
        "mix-adjoint",
        "self._function.adjoint(g, self._sandwich(p)) + moved",
        "self._function.adjoint(g, self._sandwich(p)) - moved",
        "test_hessians.py::test_r3mc_hessian_is_that_of_three_factors",
    ),
    Mutant(
        "pair-of-two-roundoffs",
        "np.triu(c * along - s * across, 1) + np.triu(s * along + c * across, 1).T",
        "c * along - s * across",
        "test_metrics.py::test_vectors_of_unit_length_under_a_stiff_metric",
    ),
    Mutant(
        "geodesic-half",
        "a.derivative(z, p) - 0.5 * a.at.apply(a.adjoint(p, p))",
        "a.derivative(z, p) - a.at.apply(a.adjoint(p, p))",
        "test_hessians.py::test_speed_is_constant_to_second_order",
    ),
    Mutant(
        "truncated-zero",
        "_positive(s[:r])",
        "s[:r]",
        "test_pymanopt_manifold.py::test_a_step_to_lower_rank_stays_on_the_manifold",
    ),
    Mutant(
        "product-step-factors",
        "for j in range(n - 1, 1, -1):",
        "for j in range(n - 1, 2, -1):",
        "test_pymanopt_manifold.py::test_product_retraction_is_a_step_of_the_factors",
    ),
    Mutant("crossed-order", "if crossed.any():", "if crossed.all():", "test_geodesics.py"),
    # -- charts ------------------------------------------------------------------------------------------------------
    Mutant(
        "diluted-tolerance",
        "((rtol * scale + atol) or 1.0) / root",
        "((rtol * scale + atol) or 1.0)",
        "test_charts.py::test_tolerances_bound_the_error_of_w",
    ),
    Mutant(
        "frozen-frames",
        "moving.norm()",
        "z.norm()",
        "test_flow.py::test_converged_at_infinite_depth",
    ),
    Mutant(
        "evaluate-mix",
        "a = m if block is None else block.core_block(m)",
        "a = m if block is None else block.core * m",
        "test_charts.py::test_velocity_of_the_singular_frame",
    ),
    Mutant(
        "repair-by-qr",
        "np.concatenate([polar(u).ravel(), core.ravel(), polar(v).ravel()])",
        "np.concatenate([thin_qr(u)[0].ravel(), core.ravel(), thin_qr(v)[0].ravel()])",
        "test_charts.py::test_repair_restores",
    ),
    Mutant(
        "determinant-underflow",
        "sign = np.linalg.slogdet(old)[0]",
        "sign = np.sign(np.linalg.det(old))",
        "test_flow.py::test_many_small_singular_values_are_no_loss",
    ),
    Mutant(
        "rank-lost-chord",
        "return bool(np.linalg.eigvals(polar(old).T @ polar(new)).real.min() < -0.5)",
        "return True",
        "test_flow.py::test_long_steps_past_a_tiny_singular_value_are_no_loss",
    ),
    Mutant(
        "rank-lost-pairs",
        "ratios = np.linalg.eigvals(ratio)",
        "return False",
        "test_flow.py::test_rank_lost_in_two_equal_modes",
    ),
    Mutant(
        "polynomial-even-turn",
        "symmetric @ (lower @ t), vp @ lower + v @ turn)",
        "symmetric @ (lower @ t), vp @ lower - v @ turn)",
        "test_charts.py::test_velocity_is_the_product_rule",
    ),
    Mutant(
        "rank-lost-near",
        "if np.vdot(away, away) < 1:",
        "if np.vdot(away, away) < 10:",
        "test_flow.py",
    ),
    Mutant(
        "ambient-new-columns",
        "dm += velocity.up @ vmt",
        "dm -= velocity.up @ vmt",
        "test_ambient.py::test_the_velocity_is_that_of_the_factors_where_singular_values_vanish",
    ),
    Mutant(
        "ambient-new-rows",
        "dm += um @ velocity.vp.T",
        "dm -= um @ velocity.vp.T",
        "test_ambient.py::test_the_velocity_is_that_of_the_factors_where_singular_values_vanish",
    ),
    Mutant(
        "ambient-frame-speed",
        "dp = (velocity.up * speed) @ um.T",
        "dp = velocity.up @ um.T",
        "test_ambient.py::test_other_shapes_follow_the_factors",
    ),
    Mutant(
        "ambient-scale-at-zero",
        "scale = max(float(linalg.norm(core)), self._size)",
        "scale = float(linalg.norm(core))",
        "test_ambient.py::test_a_scale_of_its_own_at_zero",
    ),
    Mutant(
        "extension-any-null-vector",
        "bool((gap <= _CLOSE * unit + 100 * EPS * zero).all())",
        "bool((gap >= 0).all())",
        "test_ambient.py::test_where_a_metric_extends",
    ),
    Mutant(
        "rank-lost-blamed",
        "return speeds[1] <= (1 + 1e-6) * speeds[0]",
        "return speeds[1] < speeds[0]",
        "test_ambient.py::test_which_metrics_keep_the_rank",
    ),
    Mutant(
        "bound-of-factors",
        "return float(curvature * np.vdot(others, others)",
        "return float(curvature * others.max() ** 2",
        "test_charts.py::test_spectral_bound_at_a_minimiser",
    ),
    Mutant(
        "bound-from-zero",
        "excess = max(value - least, 0.0) + 100 * EPS * abs(value)",
        "excess = abs(value)",
        "test_statements.py::test_a_bound_on_the_stiffness_needs_to_know_how_low_the_loss_falls",
    ),
    Mutant(
        "bound-at-other-roots",
        "depth < 2 or self.root != self.metric.root:",
        "depth < 2:",
        "test_charts.py::test_spectral_bound_is_none_where_none_is_known",
    ),
    Mutant(
        "point-not-exact",
        "w = LowRankMatrix._trusted(qu @ a, s, bt @ qv.T)",
        "w = LowRankMatrix._trusted(u @ p, l**self.root, qt @ v.T)",
        "test_charts.py::test_point_is_orthonormal_and_the_same_matrix",
    ),
    # -- steppers ----------------------------------------------------------------------------------------------------
    Mutant(
        "rkc-estimate",
        "-0.8 * now + 0.4 * (first + times(h, end))",
        "-0.8 * now + 0.8 * first",
        "test_steppers.py::test_order_of_the_error_estimate",
    ),
    Mutant(
        "rock4-finish-estimate",
        "error += k.e[s - 4 + i] * slopes[-1]",
        "pass",
        "test_steppers.py::test_order_of_the_error_estimate",
    ),
    Mutant(
        "rock4-roundoff",
        "error += np.copysign(_ROUNDED * self.rounding(s) * size, error)",
        "pass",
        "test_steppers.py::test_rock4_counts_the_roundoff_of_its_finish",
    ),
    Mutant(
        "fixed-times-add-up",
        "target: Any = self._origin + self.direction * (self._count + 1) * self.h_abs",
        "target: Any = self.t + self.direction * self.h_abs",
        "test_flow.py::test_fixed_steps_are_as_many_as_asked test_steppers.py::test_last_step_lands_on_the_bound",
    ),
    Mutant(
        "longest-step",
        "min(h_abs, self.max_step, self.stepper.longest(state))",
        "min(h_abs, self.max_step)",
        "test_steppers.py::test_steps_below_the_spacing_of_numbers_end_the_run",
    ),
    Mutant(
        "memory-origin",
        "control = np.array([self._origin, self._count,",
        "control = np.array([self.t, self._count,",
        "test_steppers.py::test_memory_goes_on_to_the_same_bits",
    ),
    # -- the choice of the method ------------------------------------------------------------------------------------
    Mutant(
        "auto-to-and-fro",
        "2 * 2 ** min(choice.returns, 3)",
        "2",
        "test_solvers.py::test_auto_does_not_go_to_and_fro_for_ever",
    ),
    Mutant(
        "auto-thresholds",
        "_STIFF, _EASY = 4.0, 2.0",
        "_STIFF, _EASY = 5.0, 2.0",
        "test_solvers.py::test_auto_does_not_go_to_and_fro_for_ever",
    ),
    Mutant(
        "auto-patience",
        "if votes < 2 * _EVERY:",
        "if votes < _EVERY:",
        "test_solvers.py::test_auto_does_not_go_to_and_fro_for_ever",
    ),
    Mutant(
        "auto-restore",
        'Choice(**choice, radius=arrays["radius"], direction=arrays["direction"])',
        'Choice(choice["name"], choice["log"])',
        "test_resume.py::test_a_run_goes_on_to_the_same_bits[auto]",
    ),
    Mutant(
        "first-step-too-long",
        "first_step if memory else min(first_step, bound - t)",
        "first_step",
        "test_equivalence.py::test_a_tighter_tolerance_sharpens_the_claim",
    ),
    Mutant(
        "auto-after-a-crossing",
        "return after if choice is before.choice else",
        "return after if True else",
        "test_solvers.py::test_auto_takes_no_sign_from_what_decays",
    ),
    Mutant(
        "auto-stays",
        "_EVERY == 0 and not choice.stays",
        "_EVERY == 0",
        "test_solvers.py::test_auto_takes_no_sign_from_what_decays",
    ),
    Mutant(
        "auto-crossing-is-the-limit",
        "self.record.stands_still(before.t, 2)",
        "False",
        "test_solvers.py::test_a_limit_of_lower_rank_ends",
    ),
    Mutant(
        "auto-judges-before-it-stops",
        "if state.status not in (None, Status.MAX_EVALUATIONS):",
        "if state.status is not None:",
        "test_resume.py::test_a_budget_that_is_raised_changes_no_bit",
    ),
    # -- the loop ----------------------------------------------------------------------------------------------------
    Mutant(
        "peak-of-now",
        "peak=max(state.peak, moment.stationarity)",
        "peak=moment.stationarity",
        "test_solvers.py::test_the_limit_is_reached_at_every_tolerance[DOP853-0.0001]",
    ),
    Mutant(
        "natural-step-lost",
        'state.step if solver.status == "finished" else 0.0',
        "0.0",
        "test_flow.py::test_landing_costs_at_most_a_step_for_each_time",
    ),
    Mutant(
        "budget-of-steps",
        "self.field.nfev >= self.limits.budget",
        "state.nsteps >= self.limits.budget",
        "test_flow.py::test_max_evaluations",
    ),
    Mutant("still-too-short", "if len(stretch) < steps:", "if False:", "test_solvers.py::test_what_stands_still"),
    Mutant(
        "never-stalls",
        "return state.over(Status.STALLED)",
        "return state",
        "test_solvers.py::test_a_limit_of_lower_rank_ends",
    ),
    Mutant(
        "repair-early",
        "state.drift > 10 * self.limits.rtol",
        "state.drift > self.limits.rtol",
        "test_flow.py::test_drift_is_repaired_only_when_large",
    ),
    Mutant(
        "memory-lost",
        '{} if anew or off_grid else dict(getattr(solver, "memory", {}))',
        "{}",
        "test_resume.py::test_checkpoints_do_not_change_a_runge_kutta_run[RKC]",
    ),
    Mutant(
        "converged-at-the-end",
        "if self.limits.gtol > 0 and state.status is None:",
        "if self.limits.gtol > 0 and state.status is None and not finished:",
        "test_flow.py::test_callback_sees_progress",
    ),
    # -- the books of a run ------------------------------------------------------------------------------------------
    Mutant(
        "jet-product",
        "slope = _after(self.slope, other.value) + _before(self.value, other.slope)",
        "slope = _after(self.slope, other.value)",
        "test_charts.py::test_jacobians",
    ),
    Mutant(
        "hessian-believed",
        "return bool(np.linalg.norm(found - change) <= room)",
        "return True",
        "test_solvers.py::test_a_wrong_hessian_does_no_harm_to_a_flow_that_needs_none",
    ),
    Mutant(
        "implicit-for-good",
        "return self._to_explicit(choice, solver.t, z) if choice.votes == 2 else choice",
        "return choice",
        "test_solvers.py::test_auto_leaves_equations_where_they_gain_nothing",
    ),
    Mutant(
        "blocks-of-one-side",
        "gu += g[rows].T @ u[rows]",
        "gu = g[rows].T @ u[rows]",
        "test_gradients.py::test_both_sides_are_two_products",
    ),
    Mutant(
        "replay-of-one-update",
        "path = gradient_descent(self.loss, net, step_size=h, steps=count, rule=rule, keep_every=count)",
        "path = gradient_descent(self.loss, net, step_size=h, steps=1, rule=rule)",
        "test_diagnosis.py::test_a_run_of_descent_is_followed",
    ),
    Mutant(
        "run-without-correction",
        "ModifiedFlow(self.loss, self.step, trained=self.trained)",
        "ModifiedFlow(self.loss, 2 * self.step, trained=self.trained)",
        "test_diagnosis.py::test_a_run_of_descent_is_followed",
    ),
    Mutant(
        "diagnosis-of-the-smaller-norm",
        "scales = [max(a, b) for a, b in pairwise(self._squares())]",
        "scales = [min(a, b) for a, b in pairwise(self._squares())]",
        "test_diagnosis.py::test_the_numbers_are_those_of_dense_formulas",
    ),
    Mutant(
        "remembered-elsewhere",
        "return self._last is not None and self._last[0] is y\n\n    def motion",
        "return self._last is not None\n\n    def motion",
        "test_charts.py::test_a_look_shares_the_gradient_of_its_own_velocity_alone[polynomial-3]",
    ),
    Mutant(
        "uncounted-look",
        "self.nfev += not self._remembers(y)",
        "pass",
        "test_flow.py::test_every_gradient_is_counted",
    ),
    Mutant(
        "event-direction",
        "np.sign(after - before)",
        "np.sign(before - after)",
        "test_flow.py::test_direction_of_an_event",
    ),
    Mutant(
        "event-twice",
        "if before == 0 or before * after > 0",
        "if before * after > 0",
        "test_flow.py::test_event_that_is_zero_at_a_step_counts_once",
    ),
    Mutant(
        "event-order",
        "sorted(found, key=lambda pair: pair[0])",
        "found",
        "test_flow.py::test_first_of_two_terminal_events_in_a_step_wins",
    ),
    Mutant(
        "event-state",
        "y = state.y if hit == t else interpolant()(hit)",
        "y = state.y",
        "test_flow.py::test_dense_output_up_to_an_event",
    ),
    Mutant(
        "record-twice",
        "if self.rows and t <= self.rows[-1].t:",
        "if self.rows and t < self.rows[-1].t:",
        "test_flow.py::test_save",
    ),
    Mutant(
        "dissipation-scale",
        "_SHARE * speed / np.abs(self.first[self._scaled])",
        "1.0",
        "test_columns.py::test_the_units_of_integrals_do_not_disturb_the_power_iteration",
    ),
    Mutant(
        "defect-of-now",
        "defect=max(state.defect, drift)",
        "defect=drift",
        "test_flow.py::test_drift_is_repaired_only_when_large",
    ),
    Mutant(
        "still-stationarity", "not grew and late > early / 2", "not grew", "test_solvers.py::test_what_stands_still"
    ),
    Mutant(
        "still-growth",
        "grew = (now.singular_values > then.singular_values * (1 + 1e-6)).any()",
        "grew = False",
        "test_solvers.py::test_what_stands_still",
    ),
    Mutant(
        "snapshot-counts",
        '"restarts", "drift", "defect", "detail"',
        '"drift", "detail"',
        "test_resume.py::test_repairs_are_counted_through",
    ),
    Mutant(
        "restore-trace",
        'self.trace, self._last = _unpack("trace", arrays), None',
        "self.trace, self._last = [], None",
        "test_resume.py::test_whatever_is_kept[limit]",
    ),
    Mutant(
        "restore-levels",
        'tuple(head["levels"])',
        'tuple(-x for x in head["levels"])',
        "test_resume.py::test_whatever_is_kept[event]",
    ),
    # -- checkpoints, trajectories -----------------------------------------------------------------------------------
    Mutant(
        "digest-order",
        "if hashlib.sha256(last + record).digest() != digest:",
        "if False:",
        "test_checkpoint.py::test_a_change_that_the_archive_does_not_notice_is_refused",
    ),
    Mutant(
        "factors-by-text",
        "key=lambda k: int(k[8:])",
        "key=str",
        "test_checkpoint.py::test_points_come_back_through_a_checkpoint",
    ),
    Mutant(
        "keeper-other-start",
        'if not np.array_equal(arrays["first"], loop.field.system.y0):',
        "if False:",
        "test_resume.py::test_another_problem_is_refused",
    ),
    Mutant("keeper-other-loss", "AGREES = 1e-9", "AGREES = 10.0", "test_resume.py::test_another_problem_is_refused"),
    Mutant(
        "keeper-other-method",
        "[chosen.name, chosen.step_size]",
        "chosen.step_size",
        "test_resume.py::test_another_problem_is_refused_between_two_methods_that_were_named",
    ),
    Mutant(
        "keeper-over",
        "RANK_LOST, Status.NOT_FINITE, Status.STEP_TOO_SMALL)",
        "RANK_LOST)",
        "test_resume.py::test_a_failed_run_keeps_why",
    ),
    Mutant(
        "keeper-budget",
        "if status is not None and state.nfev >= limits.budget:",
        "if False:",
        "test_resume.py::test_a_spent_budget_stays_spent",
    ),
    Mutant(
        "keeper-peak",
        '"stationarity", "peak",',
        '"stationarity",',
        "test_resume.py::test_whatever_is_kept[limit]",
    ),
    Mutant(
        "load-dissipated",
        "{k.removeprefix(_COLUMN): a for k, a in arrays.items() if k.startswith(_COLUMN)}",
        "{}",
        "test_flow.py::test_round_trip",
    ),
    Mutant(
        "load-passages",
        'passages=[Passage(*p) for p in head.get("passages", [])],',
        "",
        "test_trajectory.py::test_passages_come_back_from_a_file",
    ),
    Mutant(
        "passages-learned",
        "learnable & (moment.singular_values > largest / 2)",
        "moment.singular_values > largest / 2",
        "test_solvers.py::test_modes_that_never_grow_are_not_learned",
    ),
    # -- descent, separation -----------------------------------------------------------------------------------------
    Mutant(
        "descent-last",
        "state = replace(self._kept(state), status=status, detail=state.detail)",
        "",
        "test_descent_rules.py::test_stops_end_the_run_where_they_hold_first",
    ),
    Mutant(
        "heavy-ball",
        "m = [self.momentum * v + g for v, g in zip(memory[\"momentum\"], egrads, strict=True)]",
        "m = [self.momentum * v + (1 - self.momentum) * g for v, g in zip(memory[\"momentum\"], egrads, strict=True)]",
        "test_descent_rules.py::test_rules_are_those_of_their_sources",
    ),
    Mutant(
        "adam-start",
        "1 - a ** (k + 1), 1 - b ** (k + 1)",
        "1.0, 1.0",
        "test_descent_rules.py::test_rules_are_those_of_their_sources",
    ),
    Mutant(
        "batches-order",
        "np.random.default_rng([self.seed, epoch])",
        "np.random.default_rng(self.seed)",
        "test_descent_rules.py::test_an_epoch_goes_once_through_all_samples",
    ),
    Mutant(
        "descent-memory",
        "state = replace(\n            self._first, net=last, memory=memory,",
        "state = replace(\n            self._first, net=last,",
        "test_descent_rules.py::test_a_run_goes_on_to_the_bit",
    ),
    Mutant(
        "theorem-factor",
        "product ** (2 / n) + n * (n - 1) / 2 * d",
        "product ** (2 / n) + n * d",
        "test_descent_bounds.py::test_constants_are_those_of_the_theorem",
    ),
    Mutant(
        "certificate-halved",
        "return contraction * e + h * h / 2 * (turned + change)",
        "return contraction * e + h * h / 4 * (turned + change)",
        "test_descent_bounds.py::test_no_iterate_is_farther_from_the_flow_than_the_bound",
    ),
    Mutant(
        "modified-flow",
        "return -(g + self._step / 2 * (turned if self._free is None else self._free * turned))",
        "return -(g + self._step * (turned if self._free is None else self._free * turned))",
        "test_descent_bounds.py::test_descent_is_closer_to_the_modified_flow_by_an_order",
    ),
    Mutant("two-cycle", "half = (h * sigma + 1) / 2", "half = h * sigma", "test_descent_edge.py::test_the_two_cycle_is_one"),
    Mutant(
        "thinned",
        "self.rows, self.keep_every = self.rows[::2], 2 * self.keep_every",
        "self.rows = self.rows[::2]",
        "test_descent_rules.py::test_a_run_that_a_test_ends_keeps_what_was_made",
    ),
    Mutant(
        "alignment",
        "norms = [float(linalg.norm(f, 2)) for f in factors]\n    # scaled",
        "norms = [float(linalg.norm(f)) for f in factors]\n    # scaled",
        "test_named_columns.py::test_each_is_its_formula",
    ),
    Mutant(
        "flat-to-roundoff",
        "return float(start @ (hessian @ start) / (start @ start))",
        "raise",
        "test_descent.py::test_sharpness_where_the_hessian_is_roundoff",
    ),
    Mutant(
        "drift-order",
        "scale = max(float(linalg.norm(f)) for w in (at, after) for f in w.network.factors) ** 2 or 1.0",
        "scale = max(float(linalg.norm(f)) for f in at.network.factors) ** 2 or 1.0",
        "test_verify_descent.py::test_an_update_that_makes_factors_much_larger_has_their_roundoff",
    ),
    Mutant(
        "shadow-floor",
        "np.where(distance > floor, (distance - floor) / bounds, 0.0)",
        "np.where(distance > 0, distance / bounds, 0.0)",
        "test_verify_descent.py::test_a_bound_that_is_nearly_attained_is_compared_up_to_roundoff",
    ),
    Mutant(
        "scalar-half-log",
        "return log_u + 0.5 * np.logaddexp(2 * log_u[..., None], log_delta).sum(axis=-1)",
        "return log_u + np.logaddexp(2 * log_u[..., None], log_delta).sum(axis=-1)",
        "test_scalar.py",
    ),
    Mutant("scalar-law", "else 1 - math.log(3) / 2", "else 1 - math.log(3)", "test_scalar.py"),
    Mutant(
        "mode-phase",
        "return self.target / (1 + q), self.target * (q / (1 + q))",
        "return self.target * (1 - q), self.target * q",
        "test_exact_modes.py",
    ),
    Mutant("riccati-stretch", "longest = 1 / max(", "longest = 20 / max(", "test_exact_layers.py"),
    Mutant(
        "two-layer-unit",
        "inner = self.curvature * np.atleast_1d(times)",
        "inner = np.atleast_1d(times)",
        "test_exact_layers.py::test_a_loss_and_a_network",
    ),
    Mutant(
        "strand-base",
        "base = begun if last == n else float(kappa[last])",
        "base = begun if last == n else float(kappa[last - 1])",
        "test_unbalanced.py::test_factors_have_the_imbalances_that_were_asked_for",
    ),
    Mutant(
        "gram-corner",
        "out[:n] = self._inner.T @ x[n:]",
        "out[:n] = 0.0 * (self._inner.T @ x[n:])",
        "test_unbalanced.py",
    ),
    Mutant(
        "closed-orbit",
        "half = b.T @ e if j == k + 1 else -(e @ a.T)",
        "half = b.T @ e if j == k + 1 else e @ a.T",
        "test_unbalanced.py::test_the_product_is_closed_where_theory_says",
    ),
    Mutant("shifted-twice", "y = self._targets - w0 @ x", "y = self._targets + w0 @ x", "test_lora.py"),
    Mutant(
        "orthogonal-rows",
        "return cls._trusted([scale * random_frame(n, r, rng=rng).T, np.zeros((m, r))])",
        "return cls._trusted([scale * rng.standard_normal((r, n)) / np.sqrt(n), np.zeros((m, r))])",
        "test_lora.py",
    ),
    Mutant(
        "rate-widths",
        "if h >= size:  # else the kernel",
        "if True:  # else the kernel",
        "test_kernels.py",
    ),
    Mutant(
        "rate-depth",
        "return 2 * mu * (depth if m == n else 1) * c ** (2 - 2 / depth)",
        "return 2 * mu * 3 * depth * c ** (2 - 2 / depth)",
        "test_kernels.py::test_a_margin_at_the_start_bounds_the_whole_run",
    ),
    Mutant(
        "kernel-sides",
        "return TangentKernel((a @ a.T, b.T @ b) for a, b in zip(left, right, strict=True))",
        "return TangentKernel((a @ a.T, b.T @ b + 1e-9) for a, b in zip(left, right, strict=True))",
        "test_kernels.py",
    ),
    Mutant(
        "slow-rate",
        "slow = rest * (top - rest) / np.where(fast > 0, fast, 1.0)",
        "slow = (top - rest) / 2",
        "test_exact_layers.py",
    ),
    Mutant(
        "separation-level",
        "level = followed.value(start) + np.log(end)",
        "level = followed.value(start) - np.log(end)",
        "test_separation.py::test_separable_data_have_no_limit",
    ),
    # -- reports -----------------------------------------------------------------------------------------------------
    Mutant(
        "controls-ignored",
        "if self.holds and all(c.caught for c in self.controls)",
        "if self.holds",
        "test_report.py::test_verdicts",
    ),
    Mutant("unmet-hypotheses", "if not self.claimed:", "if False:", "test_report.py::test_verdicts"),
    Mutant(
        "controls-all-counted",
        "[k for c in self.claims if c.claimed for k in c.controls]",
        "[k for c in self.claims for k in c.controls]",
        "test_plotting.py::test_controls_of_what_is_not_claimed_are_neither_caught_nor_missed",
    ),
    Mutant(
        "controls-all-judged",
        "if claim.claimed:  # else",
        "if claim:  # else",
        "test_plotting.py::test_controls_of_what_is_not_claimed_are_neither_caught_nor_missed",
    ),
    Mutant(
        "pictures-drawn-again",
        "(pictures_of(report) if pictures is None else pictures).values()",
        "pictures_of(report).values()",
        "test_plotting.py::test_each_picture_is_drawn_once_for_its_file_and_for_the_page",
    ),
    Mutant(
        "words-not-read",
        'data.get(name, "") for name in ("title", "lead", "headline", "repeats")',
        '"" for name in ("title", "lead", "headline", "repeats")',
        "test_report.py::test_json_is_valid_and_reads_back",
    ),
    Mutant(
        "text-is-markup", "autoescape=True", "autoescape=False", "test_html_report.py::test_text_is_never_markup"
    ),
    Mutant(
        "empty-report-passes",
        'return not self.failed and any(c.verdict == "passed" for c in self.claims)',
        "return not self.failed",
        "test_report.py::test_a_report_passes_if_nothing_failed_and_something_was_claimed",
    ),
    Mutant(
        "controls-caught-nan",
        "return not holds(self.measured, self.relation, self.bound)",
        "return self.measured > self.bound",
        "test_report.py::test_verdicts",
    ),
    Mutant(
        "table-not-finite",
        "tuple(NOT_FINITE.get(v, v) if isinstance(v, str) else v for v in row)",
        "tuple(row)",
        "test_report.py::test_tables_are_printed_written_and_read_back",
    ),
    # -- checks ------------------------------------------------------------------------------------------------------
    Mutant(
        "product-embedding",
        "return [part.embedding(p, z) for part, p, z in zip(self.manifolds, point, tangent_vector, strict=True)]",
        "return tangent_vector",
        "test_pymanopt_conventions.py::test_the_hessian_on_pymanopts_product_is_wrong",
    ),
    Mutant(
        "roundoff-contradicts",
        "_VANISHED = 1e-8",
        "_VANISHED = 0.0",
        "test_pymanopt_conventions.py::test_trust_regions_go_on_to_roundoff",
    ),
    Mutant(
        "critical-gradient",
        "told = Hypothesis(\"a gradient above roundoff\", bool(seen), abs(slope))",
        "told = Hypothesis(\"a gradient above roundoff\", True, abs(slope))",
        "test_pymanopt_conventions.py::test_a_critical_point_says_nothing_of_the_gradient",
    ),
    Mutant(
        "seed-of-the-user",
        "_SEED = 1_618_033_989",
        "_SEED = 0",
        "test_pymanopt_conventions.py::test_the_seed_of_a_point_is_not_that_of_the_check",
    ),
    Mutant(
        "check-state",
        "for x in (again, after, twice)",
        "for x in (again,)",
        "test_checks.py::test_each_mistake_fails_its_own_claim",
    ),
    Mutant(
        "check-shared",
        "max(gap, relative(ours, apart))",
        "gap",
        "test_checks.py::test_each_mistake_fails_its_own_claim",
    ),
    Mutant(
        "check-ties",
        "c.core_block(q @ m @ q.T), q @ c.core_block(m) @ q.T",
        "q @ c.core_block(m) @ q.T, q @ c.core_block(m) @ q.T",
        "test_checks.py::test_every_metric_passes_check_metric",
    ),
    Mutant(
        "check-flat-steps",
        "last = max(2, int(np.argmax(apart)) if apart.any() else gaps.size)",
        "last = gaps.size",
        "test_checks.py::test_right_losses_pass_at_every_scale",
    ),
    # -- comparisons -------------------------------------------------------------------------------------------------
    Mutant(
        "default-widths",
        "if depth == 2:\n        return rank",
        "if depth == 3:\n        return rank",
        "test_equivalence.py::test_problem_and_figures_say_what_was_done",
    ),
    Mutant(
        "claim-seed",
        "[seed, *name.encode()]",
        "[seed]",
        "test_claims.py::test_generators_go_by_seed_and_name",
    ),
    Mutant(
        "reference-kept",
        "keep(pair[1])",
        "keep(found.scout)",
        "test_equivalence.py::test_ctrl_c_within_the_shared_runs_keeps_the_best_path_so_far",
    ),
    Mutant(
        "departure-rate",
        "predicted = 2 * np.interp(times, t, growth)",
        "predicted = np.interp(times, t, growth)",
        "test_equivalence.py::test_depth_2_with_wide_layers_stops_at_the_horizon_and_claims_the_departure",
    ),
    Mutant(
        "geometric-control",
        "if changed < 10 * bound:",
        "if False:",
        "test_equivalence.py::test_a_problem_that_is_diagonal_in_the_frames_of_the_start",
    ),
    Mutant(
        "learnt-at-the-start",
        "if at_start[i] >= 0.5:",
        "if False:",
        "test_compare_metrics.py::test_a_mode_is_learnt_at_the_start_or_never",
    ),
    Mutant(
        "one-ruler",
        "if degenerate or is_symmetric(metric):",
        "if is_symmetric(metric):",
        "test_compare_metrics.py::test_the_limit_is_named_by_its_modes_and_effective_ranks_are_right",
    ),
    Mutant(
        "determinant-clock",
        "((c.mix, a), (c.determinant, a * a))",
        "((c.mix, a), (c.determinant, a))",
        "test_compare_metrics.py::test_every_claim_holds_for_every_metric_and_its_control_is_caught",
    ),
    Mutant(
        "labels-once",
        'label += "\'"',
        "break",
        "test_compare_metrics.py::test_two_metrics_of_one_class_keep_their_own_names",
    ),
    Mutant(
        "conversion-backwards",
        "converted = convert_gradient(w, gradients[a], first, second)",
        "converted = convert_gradient(w, gradients[a], second, first)",
        "test_compare_metrics.py::test_every_claim_holds_for_every_metric_and_its_control_is_caught",
    ),
    # -- data --------------------------------------------------------------------------------------------------------
    Mutant(
        "steps-as-given",
        "tuple(step for step in known if step in wanted)",
        "wanted",
        "test_data.py::test_way_back test_data.py::test_steps_do_one_thing_each test_data.py::test_description_is_ready_for_json",
    ),
    Mutant(
        "second-mean",
        "mean = mean + (x - mean).mean(axis=0)",
        "pass",
        "test_data.py::test_constant_feature_is_dropped_and_not_scaled_up",
    ),
    Mutant(
        "range-of-values",
        "kept = int((square > RANGE).sum())",
        "kept = int((s / s[0] > RANGE).sum())",
        "test_data.py::test_bundled_data_are_as_announced test_data.py::test_raw_digits_are_rank_deficient",
    ),
    Mutant(
        "raw-scale",
        "scale = self.target_rms / self.input_rms",
        "scale = self.input_rms / self.target_rms",
        "test_data.py::test_way_back",
    ),
    Mutant(
        "mirrored-diagonal",
        "mirror = rows != cols",
        "mirror = rows == rows",
        "test_data.py::test_matrix_market_agrees_with_scipy",
    ),
    Mutant(
        "market-from-one",
        "rows, cols = table[:, 0] - 1, table[:, 1] - 1",
        "rows, cols = table[:, 0], table[:, 1]",
        "test_data.py::test_matrix_market_agrees_with_scipy",
    ),
    # -- what the redesign brought -------------------------------------------------------------------------------------
    Mutant(
        "cut-short",
        "if last and stream.tell() == size:",
        "if last:",
        "test_checkpoint.py::test_records_exchanged_are_refused",
    ),
    Mutant(
        "never-anew",
        "if 2 * (self._dead + self._live) > self._end or",
        "if",
        "test_checkpoint.py::test_the_bytes_in_all_grow_with_the_number_of_records",
    ),
    Mutant(
        "always-anew", "_size(self.path) != self._end:", "True:", "test_resume.py::test_what_is_kept_is_written_once"
    ),
    Mutant(
        "half-a-record",
        "file.truncate(self._end)",
        "pass",
        "test_checkpoint.py::test_an_error_while_appending_leaves_what_was_there",
    ),
    Mutant(
        "all-rows-again",
        "self._checkpoint(state, self._rows, self._looks)",
        "self._checkpoint(state, 0, 0)",
        "test_resume.py::test_a_run_goes_on_to_the_same_bits[DOP853]",
    ),
    Mutant(
        "rows-unfinished",
        "while len(self.rows) > 1 and self.rows[-1].t > t:",
        "while False:",
        "test_flow.py::test_interrupted_between_the_columns_of_a_step",
    ),
    Mutant(
        "free-integrals",
        "controlled & np.isfinite(self.first)",
        "np.isfinite(self.first)",
        "test_columns.py::test_free_integrals_leave_the_path_alone",
    ),
    Mutant(
        "integrals-in-units",
        "(y[-self._count :] / self._units)",
        "(y[-self._count :])",
        "test_columns.py::test_integrals_under_every_method",
    ),
    Mutant(
        "repair-integrals",
        "np.append(self.inner.repair(self.coordinates(y)), y[-self._count :])",
        "np.append(self.inner.repair(self.coordinates(y)), 0 * y[-self._count :])",
        "test_columns.py::test_integrals_survive_a_repair",
    ),
    Mutant(
        "lifted-power",
        "Motion(t, w, z, velocity, squared_norm(gradients))",
        "Motion(t, w, z, velocity, z.dot(z))",
        "test_columns.py::test_every_chart_hands_over_the_same_motion",
    ),
    Mutant(
        "column-shape",
        "if first is not None and array.shape != first.shape:",
        "if False:",
        "test_errors.py::test_a_wrong_call_gets_its_message",
    ),
    Mutant(
        "dense-integrals",
        "self.solution(t)[: self.size]",
        "self.solution(t)",
        "test_pickles.py::test_dense_trajectories",
    ),
    Mutant("facts-of-none", "return method if callable(method) else None", "return method", "test_facts.py"),
    Mutant(
        "metric-asked-twice", "left, right = _rates(said, s, c)", "left, right = frame_rates(said, s)", "test_facts.py"
    ),
    Mutant(
        "rates-unseen",
        'if _away(_first_rates(loop), arrays["first_rates"]):',
        "if False:",
        "test_columns.py::test_another_function_of_the_same_name_is_refused",
    ),
    Mutant(
        "columns-unseen",
        "if _away(now, then) and _repeats(function, now):",
        "if False:",
        "test_columns.py::test_another_function_of_the_same_name_is_refused",
    ),
    Mutant(
        "events-unseen",
        "if _away(event.level(state.t, w), level):",
        "if False:",
        "test_columns.py::test_another_function_of_the_same_name_is_refused",
    ),
    Mutant(
        "hours-refused",
        " and _repeats(function, now):",
        ":",
        "test_columns.py::test_a_column_that_tells_the_hour_is_no_reason_to_refuse",
    ),
    Mutant(
        "diluted-tolerance",
        "absolute * np.sqrt(absolute.size / y.size)",
        "absolute",
        "test_columns.py::test_free_integrals_of_any_size_and_number",
    ),
    Mutant(
        "mask-as-numbers",
        "numbers[np.asarray(chosen)]",
        "np.asarray(chosen, int)",
        "test_columns.py::test_a_part_of_a_trajectory",
    ),
    Mutant(
        "no-blame",
        "finite in names if not finite",
        "finite in names if finite",
        "test_columns.py::test_a_rate_that_is_not_finite_is_named",
    ),
    # -- landscape -----------------------------------------------------------------------------------------------------
    Mutant(
        "narrowest-layer", "return min(*sizes, self.target_rank)", "return min(sizes)",
        "test_landscape.py::test_no_point_is_of_another_class_than_its_hessian_says",
    ),
    Mutant(
        "any-pivot", "kind = NON_STRICT if all(p.tightened for p in pivots) else STRICT",
        "kind = NON_STRICT if any(p.tightened for p in pivots) else STRICT",
        "test_landscape.py::test_no_point_is_of_another_class_than_its_hessian_says",
    ),
    Mutant(
        "inversions-turned", "not in chosen and s[i] - s[j] > TIED", "not in chosen and s[j] - s[i] > TIED",
        "test_landscape.py::test_inertia_where_it_is_known",
    ),
    Mutant(
        "whole-gradient", "float(np.prod(np.delete(sizes, j)))", "float(np.prod(sizes))",
        "test_landscape.py::test_far_from_everything",
    ),
    Mutant(
        "seen-by-inputs", "unseen = _kernel(form, 0, b, transposed=True)", "unseen = np.eye(sizes[b])",
        "test_landscape.py::test_lines_out_of_saddles_are_exact",
    ),
    Mutant(
        "rise-of-one", "rise = 0.5 * (inner *", "rise = (inner *", "test_landscape.py::test_lines_out_of_saddles_are_exact",
    ),
    Mutant(
        "bent-at-three", "[: 2 + (m > 3)]", "[: 2]",
        "test_landscape_escape.py::test_saddles_whose_ends_have_no_kernel_are_left_all_the_same",
    ),
    Mutant(
        "means-unweighted", "alpha = fall / (2 * len(rising) * theta * c[k])", "alpha = fall / (theta * c[k])",
        "test_landscape_escape.py::test_saddles_whose_ends_have_no_kernel_are_left_all_the_same",
    ),
    Mutant(
        "neither-of-two", "_OFF = 1e-3", "_OFF = 0.5",
        "test_landscape_ties.py::test_between_the_two_nothing_is_decided_and_the_two_are_named",
    ),
    Mutant(
        "pairs-exact", "return max(FLOOR, 100 * EPS / closest(problem)[1])", "return FLOOR",
        "test_landscape_ties.py::test_the_critical_points_are_told_exactly",
    ),
    Mutant(
        "points-of-one-seed", "population = Population(points, seed)", "population = Population(points, 0)",
        "test_landscape_theory.py::test_numbers_go_with_the_seed",
    ),
    Mutant(
        "one-multiplicity", "kept = kept._replace(multiplicity=kept.multiplicity + 1)", "kept = kept._replace(multiplicity=1)",
        "test_landscape.py::test_critical_values_come_in_order_with_their_multiplicities",
    ),
    Mutant(
        "nearest-of-all", "for f in sorted(told or near, key=", "for f in sorted(near, key=",
        "test_landscape.py::test_points_near_critical_ones_are_told",
    ),
    Mutant(
        "late-gradient", "100 * _distance(moved, again)", "100 * _distance(moved, used)",
        "test_checks.py::test_a_gradient_of_the_call_before_is_not_taken_for_roundoff",
    ),
    Mutant(
        "parts-go-back", "max(self._done[name], fraction)", "fraction",
        "test_workers.py::test_the_whole_only_grows_whatever_its_parts_tell",
    ),
    Mutant(
        "ctrl-c-unheard", "if stop.value:", "if False:", "test_workers.py::test_what_runs_elsewhere_is_told_to_stop",
    ),
    # -- problems ----------------------------------------------------------------------------------------------------
    Mutant(
        "any-data", "if known.get(name, found) != found:", "if False:",
        "test_problems.py::test_files_that_changed_are_refused test_problems.py::test_bundled_data_that_changed_are_refused",
    ),
    Mutant(
        "runs-code", "    if again is None:\n        raise", "    if again is None:\n        return known\n        raise",
        "test_problems.py::test_a_report_does_not_run_code",
    ),
    Mutant("any-array", "if named != source:", "if False:",
           "test_problems.py::test_arrays_in_memory_are_named_and_handed_over_again"),
    Mutant("used-up", "rng=deepcopy(built.rng), chart", "rng=built.rng, chart",
           "test_problems.py::test_python_and_shell_measure_the_same"),
    Mutant("unsealed", "replace(problem, sha256=numbers.found | hashes)", "problem",
           "test_problems.py::test_files_that_changed_are_refused"),
    Mutant("half-a-line", "isinstance(value, InMemory) or f.name not in taken:", "isinstance(value, InMemory):",
           "test_problems.py::test_the_command_line_states_the_problem_or_nothing"),
    Mutant("built-before", "_built(with_metrics(problem) if isinstance(problem, Problem) else problem)", "_built(problem)",
           "test_problems.py::test_what_is_compared_by_default_is_stated_before_w0_is_made"),
    Mutant("address", "if kind.__repr__ is object.__repr__ else", "if False else",
           "test_facts.py::test_normalisation_is_the_loss_in_one_line test_problems.py::test_a_report_does_not_run_code"),
    Mutant("unsigned", "        sign(interrupted.report)\n        raise", "        raise",
           "test_problems.py::test_an_interrupted_report_carries_its_problem"),
    # -- many runs in one array ----------------------------------------------------------------------------------------
    Mutant(
        "batched-polynomial",
        "_between(left, t @ m.mT @ t, right, p - 1) - _between(left, m, right, p)",
        "_between(left, t @ m @ t, right, p - 1) - _between(left, m, right, p)",
        "test_batched.py::TestFlows::test_random_batches_member_by_member",
    ),
    Mutant(
        "batched-members-left",
        "self._members = self._members[chosen]",
        "self._members = self._members[: chosen.size]",
        "test_batched.py::TestFlows::test_neighbours_change_nothing",
    ),
    Mutant(
        "batched-losses-left",
        "found._numbers = chosen if self._numbers is None else self._numbers[chosen]",
        "found._numbers = None",
        "test_batched.py::TestDescent::test_the_edge_of_those_that_are_left",
    ),
    Mutant(
        "batched-own-tolerance",
        "errors, system.blocks, system.scales(state.y), self._tolerance(state))",
        "errors, system.blocks, system.scales(state.y), self._tolerance(state)[:1])",
        "test_batched.py::TestFlows::test_random_batches_member_by_member",
    ),
    Mutant(
        "batched-samples",
        "own[:, None] * self._samples",
        "0 * own[:, None] * self._samples",
        "test_batched.py::TestDescent::test_random_batches_member_by_member",
    ),
    Mutant(
        "batched-last-good",
        "self._end(record, k, replace(state, nfev=nfev), to_numpy(~finite), Status.NOT_FINITE)",
        "self._end(record, k + 1, replace(state, nfev=nfev), to_numpy(~finite), Status.NOT_FINITE)",
        "test_batched.py::TestDescent::test_random_batches_member_by_member",
    ),
    Mutant(
        "wilson",
        "(p * (1 - p) / n + (z / (2 * n)) ** 2)",
        "(p * (1 - p) / n)",
        "test_batched.py::TestAlmostEveryStart::test_wilson_is_that_of_scipy",
    ),
    Mutant(
        "almost-every-side",
        "u[:, :, 0] *= (wanted * sign)[:, None]",
        "u[:, :, 0] *= (abs(wanted) * sign)[:, None]",
        "test_batched.py::TestAlmostEveryStart::test_almost_every_start",
    ),
    # sweeps, and runs that are kept
    Mutant(
        "torn record read",
        "if len(body) < length or length <= _KEY or zlib.crc32(body) != check:",
        "if len(body) < length or length <= _KEY:",
        "test_sweeps.py::test_a_torn_record_is_as_if_it_were_not_there",
    ),
    Mutant(
        "failed hides done", "        self.failed -= self.done\n", "        self.done -= self.failed\n",
        "test_sweeps.py",
    ),
    Mutant(
        "full disk leaves half", "            os.ftruncate(self._file, before)\n", "",
        "test_sweeps.py::test_a_full_disk_is_one_line_and_loses_nothing",
    ),
    Mutant(
        "samples one off", "return [low + int(u * (high - low + 1)) for u in share]",
        "return [low + int(u * (high - low)) for u in share]", "test_sweeps.py",
    ),
    Mutant(
        "first result overwritten", "if found is None or state[found] == 1:", "if found is None:", "test_sweeps.py",
    ),
    Mutant(
        "recorder one late", "if self._count % self._every == 0 and", "if self._count % self._every == 1 and",
        "test_recording.py",
    ),
    Mutant(
        "only-the-cosine-tells", "if one.turned <= _ALONG or off > abs(one.longer - 1):", "if one.turned <= _ALONG:",
        "test_diagnosis.py::test_a_run_of_something_else_is_caught",
    ),
    Mutant(
        "tenfold-of-the-first", "k + 1) for k in range(len(x.masks)))", "k + 1) for k in range(1))",
        "test_diagnosis.py::test_tiny_starts_with_biases_do_not_fail",
    ),
    Mutant(
        "coefficient-of-all-inputs", "learning_coefficient((seen, ", "learning_coefficient((it.network.shape[1], ",
        "test_diagnosis.py::test_the_learning_coefficient_is_of_what_the_loss_sees",
    ),
    Mutant(
        "options-of-a-run", "getattr(self, name) is not None]\n            if idle:", "False]\n            if idle:",
        "test_diagnosis.py::test_options_that_a_run_does_not_take_are_refused",
    ),
    Mutant(
        "run not handed over", "            path = error.trajectory = run()", "            path = run()",
        "test_resume.py::test_an_exception_takes_the_run_along",
    ),
]


def main() -> int:
    """Run the mutants that were asked for; return 0 where each does what is expected of it."""
    chosen, only_list = _arguments()
    if only_list:
        for mutant in chosen:
            print(f"{mutant.name:24} {_expected(mutant):9} {mutant.tests}")
        return 0
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        copy = _copy(Path(folder))
        if not _all_pass(copy, chosen):
            return 1
        outcomes = [_report(copy, mutant) for mutant in chosen]
    wrong = [m.name for m, outcome in zip(chosen, outcomes, strict=True) if outcome != _expected(m)]
    print(f"{len(chosen)} mutants, {outcomes.count('caught')} caught, {time.perf_counter() - began:.0f} s;", end=" ")
    print(f"not as expected: {', '.join(wrong)}" if wrong else "all as expected")
    return 1 if wrong else 0


def _arguments() -> tuple[list[Mutant], bool]:
    """Return the mutants asked for, and whether they are only to be listed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    names = [mutant.name for mutant in MUTANTS]
    parser.add_argument("--only", nargs="+", metavar="NAME", choices=names, help="these mutants; default: all")
    parser.add_argument("--list", action="store_true", help="list them and run nothing")
    given = parser.parse_args()
    return [mutant for mutant in MUTANTS if mutant.name in (given.only or names)], given.list


def _expected(mutant: Mutant) -> str:
    return OUTCOMES[0] if mutant.survives else OUTCOMES[1]


def _all_pass(copy: Path, chosen: list[Mutant]) -> bool:
    """Run all their tests once without a mutant, to be sure that they pass."""
    print("Without a mutant:", flush=True)
    tests = sorted({test for mutant in chosen for test in mutant.tests.split()})
    passed = _outcome(copy, tests) == OUTCOMES[0]
    if not passed:
        print("Mend these tests, or their names here.")
    return passed


def _report(copy: Path, mutant: Mutant) -> str:
    """Try a mutant and print a line about it; return its outcome."""
    began = time.perf_counter()
    where, outcome = _try(copy, mutant)
    print(f"{mutant.name:24} {where:32} {outcome:9} {time.perf_counter() - began:5.1f} s", flush=True)
    return outcome


def _copy(folder: Path) -> Path:
    """Return a copy of the repository without what is hidden or was made by running it."""
    ignored = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info", "build", "dist")
    return Path(shutil.copytree(ROOT, folder / "copy", ignore=ignored))


def _try(copy: Path, mutant: Mutant) -> tuple[str, str]:
    """Return the file that a mutant changes and what the tests said of it."""
    found = [file for file in (copy / PACKAGE).rglob("*.py") for _ in range(file.read_text("utf-8").count(mutant.old))]
    if len(found) != 1:
        return f"found {len(found)} times", "stale"
    with _changed(found[0], mutant):
        outcome = _outcome(copy, mutant.tests.split(), timeout=TIMEOUT, output=subprocess.DEVNULL)
    return str(found[0].relative_to(copy / PACKAGE)), outcome


@contextmanager
def _changed(file: Path, mutant: Mutant) -> Iterator[None]:
    """Change a file, and put it back."""
    text = file.read_text("utf-8")
    file.write_text(text.replace(mutant.old, mutant.new), "utf-8")
    try:
        yield
    finally:
        file.write_text(text, "utf-8")


def _outcome(copy: Path, tests: list[str], *, timeout: float | None = None, output: int | None = None) -> str:
    """Run tests on the copy, without bytecode: one second is too coarse to tell a mutant from the file before it."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-n", "0", "-p", "no:cacheprovider"]
    environment = os.environ | {"PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        done = subprocess.run(
            [*command, *(f"tests/{test}" for test in tests)],
            cwd=copy, env=environment, timeout=timeout, stdout=output, stderr=output,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return "caught"
    return OUTCOMES.get(done.returncode, "broken")


if __name__ == "__main__":
    sys.exit(main())
