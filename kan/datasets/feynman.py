r"""The Feynman equations: 120 formulas of physics with the ranges that their variables are drawn from.

An equation is a row of the table below, with its name, its variables in the order of the columns, the formula as text and the ranges. The
torch function is made from the formula (`kan.datasets.expression`), so that the two cannot differ.

Source
    S.-M. Udrescu and M. Tegmark, "AI Feynman: a physics-inspired method for symbolic regression", 2020, arXiv:1905.11481; the selection,
    the ranges and the numbers are those of pykan (Z. Liu et al., 2024, arXiv:2404.19756).
"""

from __future__ import annotations

import copy
import math
from difflib import get_close_matches
from numbers import Integral
from typing import TYPE_CHECKING, Any, NamedTuple

from kan.datasets.expression import TorchFormula, parsed, symbol_table

if TYPE_CHECKING:
    import sympy

__all__ = ["EQUATIONS", "Equation", "get_feynman_dataset"]

PI = math.pi


class Equation(NamedTuple):
    """One row of the table.

    Attributes:
        name: chapter and number in the Feynman lectures, or the common name of the formula.
        variables: names in the order of the columns, separated by blanks; ``lambda_`` stands for ``lambda``, a keyword of Python.
        formula: the right-hand side.
        ranges: ``[low, high]`` of each variable, or one such pair for all.
    """

    name: str
    variables: str
    formula: str
    ranges: list[Any]


# fmt: off
EQUATIONS: dict[int | str, Equation] = {
    "test": Equation("test", "x y", "(x + y)*sin(exp(2*y))", [-1, 1]),
    1: Equation("I.6.20a", "theta", "sqrt(2)*exp(-theta**2/2)/(2*sqrt(pi))", [[-3, 3]]),
    2: Equation("I.6.20", "theta sigma", "sqrt(2)*exp(-theta**2/(2*sigma**2))/(2*sqrt(pi)*sqrt(sigma**2))", [[-1, 1], [0.5, 2]]),
    3: Equation(
        "I.6.20b", "theta theta1 sigma", "sqrt(2)*exp(-(theta - theta1)**2/(2*sigma**2))/(2*sqrt(pi)*sqrt(sigma**2))",
        [[-1.5, 1.5], [-1.5, 1.5], [0.5, 2]],
    ),
    4: Equation("I.8.4", "x1 x2 y1 y2", "sqrt((-x1 + x2)**2 + (-y1 + y2)**2)", [[-1, 1], [-1, 1], [-1, 1], [-1, 1]]),
    5: Equation(
        "I.9.18", "G m1 m2 x1 x2 y1 y2 z1 z2", "G*m1*m2/((-x1 + x2)**2 + (-y1 + y2)**2 + (-z1 + z2)**2)",
        [[-1, 1], [-1, 1], [-1, 1], [-1, -0.5], [0.5, 1], [-1, -0.5], [0.5, 1], [-1, -0.5], [0.5, 1]],
    ),
    6: Equation("I.10.7", "m0 v c", "m0/sqrt(1 - v**2/c**2)", [[0, 1], [0, 1], [1, 2]]),
    7: Equation("I.11.19", "x1 y1 x2 y2 x3 y3", "x1*y1 + x2*y2 + x3*y3", [-1, 1]),
    8: Equation("I.12.1", "mu N_n", "N_n*mu", [-1, 1]),
    9: Equation("I.12.2", "q1 q2 epsilon r", "q1*q2/(4*pi*epsilon*r**2)", [[-1, 1], [-1, 1], [0.5, 2], [0.5, 2]]),
    10: Equation("I.12.4", "q1 epsilon r", "q1/(4*pi*epsilon*r**2)", [[-1, 1], [0.5, 2], [0.5, 2]]),
    11: Equation("I.12.5", "q2 E_f", "E_f*q2", [-1, 1]),
    12: Equation("I.12.11", "q E_f B v theta", "q*(B*v*sin(theta) + E_f)", [[-1, 1], [-1, 1], [-1, 1], [-1, 1], [0, 2 * PI]]),
    13: Equation("I.13.4", "m u v w", "0.5*m*(u**2 + v**2 + w**2)", [[-1, 1], [-1, 1], [-1, 1], [-1, 1]]),
    14: Equation("I.13.12", "G m1 m2 r1 r2", "G*m1*m2*(1/r2 - 1/r1)", [[0, 1], [0, 1], [0, 1], [0.5, 2], [0.5, 2]]),
    15: Equation("I.14.3", "m g z", "g*m*z", [[0, 1], [0, 1], [-1, 1]]),
    16: Equation("I.14.4", "k_s x", "0.5*k_s*x**2", [[0, 1], [-1, 1]]),
    17: Equation("I.15.3x", "x u t c", "(-t*u + x)/sqrt(1 - u**2/c**2)", [[-1, 1], [-1, 1], [-1, 1], [1, 2]]),
    18: Equation("I.15.3t", "t u x c", "(t - u*x/c**2)/sqrt(1 - u**2/c**2)", [[-1, 1], [-1, 1], [-1, 1], [1, 2]]),
    19: Equation("I.15.10", "m0 v c", "m0*v/sqrt(1 - v**2/c**2)", [[-1, 1], [-0.9, 0.9], [1.1, 2]]),
    20: Equation("I.16.6", "u v c", "(u + v)/(1 + u*v/c**2)", [[-0.8, 0.8], [-0.8, 0.8], [1, 2]]),
    21: Equation("I.18.4", "m1 r1 m2 r2", "(m1*r1 + m2*r2)/(m1 + m2)", [[0.5, 1], [-1, 1], [0.5, 1], [-1, 1]]),
    22: Equation("I.18.12", "r F theta", "F*r*sin(theta)", [[-1, 1], [-1, 1], [0, 2 * PI]]),
    23: Equation("I.18.16", "m r v theta", "m*r*v*sin(theta)", [[-1, 1], [-1, 1], [-1, 1], [0, 2 * PI]]),
    24: Equation("I.24.6", "m omega omega_0 x", "0.25*m*x**2*(omega**2 + omega_0**2)", [[0, 1], [-1, 1], [-1, 1], [-1, 1]]),
    25: Equation("I.25.13", "q C", "q/C", [[-1, 1], [0.5, 2]]),
    26: Equation("I.26.2", "n theta2", "asin(n*sin(theta2))", [[0, 0.99], [0, 2 * PI]]),
    27: Equation("I.27.6", "d1 d2 n", "1/(n/d2 + 1/d1)", [[0.5, 2], [1, 2], [0.5, 2]]),
    28: Equation("I.29.4", "omega c", "omega/c", [[0, 1], [0.5, 2]]),
    29: Equation(
        "I.29.16", "x1 x2 theta1 theta2", "sqrt(x1**2 - 2*x1*x2*cos(theta1 - theta2) + x2**2)",
        [[-1, 1], [-1, 1], [0, 2 * PI], [0, 2 * PI]],
    ),
    30: Equation("I.30.3", "I_0 n theta", "I_0*sin(n*theta/2)**2/sin(theta/2)**2", [[0, 1], [0, 4], [0.4 * PI, 1.6 * PI]]),
    31: Equation("I.30.5", "lambda_ n d", "asin(lambda_/(d*n))", [[-1, 1], [1, 1.5], [1, 1.5]]),
    32: Equation("I.32.5", "q a epsilon c", "a**2*q**2/(c**3*epsilon)", [[-1, 1], [-1, 1], [0.5, 2], [0.5, 2]]),
    33: Equation(
        "I.32.17", "epsilon c E_f r omega omega_0", "4*pi*E_f**2*c*epsilon*omega**4*r**2/(3*(omega**2 - omega_0**2)**2)",
        [[0, 1], [0, 1], [-1, 1], [0, 1], [0, 1], [1, 2]],
    ),
    34: Equation("I.34.8", "q V B p", "B*V*q/p", [[-1, 1], [-1, 1], [-1, 1], [0.5, 2]]),
    35: Equation("I.34.10", "omega_0 v c", "omega_0/(1 - v/c)", [[0, 1], [0, 0.9], [1.1, 2]]),
    36: Equation("I.34.14", "omega_0 v c", "omega_0*(1 + v/c)/sqrt(1 - v**2/c**2)", [[0, 1], [-0.9, 0.9], [1.1, 2]]),
    37: Equation("I.34.27", "hbar omega", "hbar*omega", [[-1, 1], [-1, 1]]),
    38: Equation("I.37.4", "I_1 I_2 delta", "I_1 + I_2 + 2*sqrt(I_1*I_2)*cos(delta)", [[0.1, 1], [0.1, 1], [0, 2 * PI]]),
    39: Equation("I.38.12", "epsilon hbar m q", "4*pi*epsilon*hbar**2/(m*q**2)", [[0, 1], [0, 1], [0.5, 2], [0.5, 2]]),
    40: Equation("I.39.10", "p_F V", "1.5*V*p_F", [[0, 1], [0, 1]]),
    41: Equation("I.39.11", "gamma p_F V", "V*p_F/(gamma - 1)", [[1.5, 3], [0, 1], [0, 1]]),
    42: Equation("I.39.22", "n k_b T V", "T*k_b*n/V", [[0, 1], [0, 1], [0, 1], [0.5, 2]]),
    43: Equation("I.40.1", "n_0 m g x k_b T", "n_0*exp(-g*m*x/(T*k_b))", [[0, 1], [-1, 1], [-1, 1], [-1, 1], [1, 2], [1, 2]]),
    44: Equation(
        "I.41.16", "hbar omega c k_b T", "hbar*omega**3/(pi**2*c**2*(exp(hbar*omega/(T*k_b)) - 1))",
        [[0.5, 1], [0.5, 1], [0.5, 2], [0.5, 2], [0.5, 2]],
    ),
    45: Equation("I.43.16", "mu q V_e d", "V_e*mu*q/d", [[0, 1], [0, 1], [0, 1], [0.5, 2]]),
    46: Equation("I.43.31", "mu k_b T", "T*k_b*mu", [[0, 1], [0, 1], [0, 1]]),
    47: Equation("I.43.43", "gamma k_b v A", "k_b*v/(A*(gamma - 1))", [[1.5, 3], [0, 1], [0, 1], [0.5, 2]]),
    48: Equation("I.44.4", "n k_b T V_1 V_2", "T*k_b*n*log(V_2/V_1)", [[0, 1], [0, 1], [0, 1], [0.5, 2], [0.5, 2]]),
    49: Equation("I.47.23", "gamma p rho", "sqrt(gamma*p/rho)", [[0.1, 1], [0.1, 1], [0.5, 2]]),
    50: Equation("I.48.20", "m v c", "c**2*m/sqrt(1 - v**2/c**2)", [[0, 1], [-0.9, 0.9], [1.1, 2]]),
    51: Equation("I.50.26", "x_1 alpha omega t", "x_1*(alpha*cos(omega*t)**2 + cos(omega*t))", [[0, 1], [0, 1], [0, 2 * PI], [0, 1]]),
    52: Equation("II.2.42", "kappa T_1 T_2 A d", "A*kappa*(-T_1 + T_2)/d", [[0, 1], [0, 1], [0, 1], [0, 1], [0.5, 2]]),
    53: Equation("II.3.24", "P r", "P/(4*pi*r**2)", [[0, 1], [0.5, 2]]),
    54: Equation("II.4.23", "q epsilon r", "q/(4*pi*epsilon*r)", [[0, 1], [0.5, 2], [0.5, 2]]),
    55: Equation("II.6.11", "epsilon p_d theta r", "p_d*cos(theta)/(4*pi*epsilon*r**2)", [[0.5, 2], [0, 1], [0, 2 * PI], [0.5, 2]]),
    56: Equation(
        "II.6.15a", "epsilon p_d z x y r", "3*p_d*z*sqrt(x**2 + y**2)/(4*pi*epsilon*r**5)",
        [[0.5, 2], [0, 1], [0, 1], [0, 1], [0, 1], [0.5, 2]],
    ),
    57: Equation(
        "II.6.15b", "epsilon p_d r theta", "3*p_d*sin(theta)*cos(theta)/(4*pi*epsilon*r**3)",
        [[0.5, 2], [0, 1], [0.5, 2], [0, 2 * PI]],
    ),
    58: Equation("II.8.7", "q epsilon d", "0.15*q**2/(pi*d*epsilon)", [[0, 1], [0.5, 2], [0.5, 2]]),
    59: Equation("II.8.31", "epsilon E_f", "0.5*E_f**2*epsilon", [[0, 1], [0, 1]]),
    60: Equation("II.10.9", "sigma epsilon chi", "sigma/(epsilon*(chi + 1))", [[0, 1], [0.5, 2], [0, 1]]),
    61: Equation("II.11.3", "q E_f m omega_0 omega", "E_f*q/(m*(-omega**2 + omega_0**2))", [[0, 1], [0, 1], [0.5, 2], [1.5, 3], [0, 1]]),
    62: Equation(
        "II.11.17", "n_0 p_d E_f theta k_b T", "n_0*(E_f*p_d*cos(theta)/(T*k_b) + 1)",
        [[0, 1], [-1, 1], [-1, 1], [0, 2 * PI], [0.5, 2], [0.5, 2]],
    ),
    63: Equation("II.11.20", "n p_d E_f k_b T", "E_f*n*p_d**2/(3*T*k_b)", [[0, 1], [0, 1], [0, 1], [0.5, 2], [0.5, 2]]),
    64: Equation("II.11.27", "n alpha epsilon E_f", "E_f*alpha*epsilon*n/(-alpha*n/3 + 1)", [[0, 1], [0, 2], [0, 1], [0, 1]]),
    65: Equation("II.11.28", "n alpha", "alpha*n/(-alpha*n/3 + 1) + 1", [[0, 1], [0, 2]]),
    66: Equation("II.13.17", "epsilon c l r", "l/(2*pi*c**2*epsilon*r)", [[0.5, 2], [0.5, 2], [0, 1], [0.5, 2]]),
    67: Equation("II.13.23", "rho v c", "rho/sqrt(1 - v**2/c**2)", [[0, 1], [0, 1], [1, 2]]),
    68: Equation("II.13.34", "rho v c", "rho*v/sqrt(1 - v**2/c**2)", [[0, 1], [0, 1], [1, 2]]),
    69: Equation("II.15.4", "mu_M B theta", "-B*mu_M*cos(theta)", [[0, 1], [0, 1], [0, 2 * PI]]),
    70: Equation("II.15.5", "p_d E_f theta", "-E_f*p_d*cos(theta)", [[0, 1], [0, 1], [0, 2 * PI]]),
    71: Equation("II.21.32", "q epsilon r v c", "q/(4*pi*epsilon*r*(1 - v/c))", [[0, 1], [0.5, 2], [0.5, 2], [0, 1], [1, 2]]),
    72: Equation("II.24.17", "omega c d", "sqrt(-pi**2/d**2 + omega**2/c**2)", [[1, 1.5], [0.75, 1], [PI, 1.5 * PI]]),
    73: Equation("II.27.16", "epsilon c E_f", "E_f**2*c*epsilon", [[0, 1], [0, 1], [-1, 1]]),
    74: Equation("II.27.18", "epsilon E_f", "E_f**2*epsilon", [[0, 1], [-1, 1]]),
    75: Equation("II.34.2a", "q v r", "q*v/(2*pi*r)", [[0, 1], [0, 1], [0.5, 2]]),
    76: Equation("II.34.2", "q v r", "q*r*v/2", [[0, 1], [0, 1], [0, 1]]),
    77: Equation("II.34.11", "g q B m", "B*g*q/(2*m)", [[0, 1], [0, 1], [0, 1], [0.5, 2]]),
    78: Equation("II.34.29a", "q h m", "h*q/(4*pi*m)", [[0, 1], [0, 1], [0.5, 2]]),
    79: Equation("II.34.29b", "g mu B J hbar", "B*J*g*mu/hbar", [[0, 1], [0, 1], [0, 1], [0, 1], [0.5, 2]]),
    80: Equation(
        "II.35.18", "n0 mu B k_b T", "n0/(exp(B*mu/(T*k_b)) + exp(-B*mu/(T*k_b)))",
        [[0, 1], [0, 1], [0, 1], [0.5, 2], [0.5, 2]],
    ),
    81: Equation("II.35.21", "n mu B k_b T", "mu*n*tanh(B*mu/(T*k_b))", [[0, 1], [0, 1], [0, 1], [0.5, 2], [0.5, 2]]),
    82: Equation(
        "II.36.38", "mu B k_b T alpha M epsilon c", "B*mu/(T*k_b) + M*alpha*mu/(T*c**2*epsilon*k_b)",
        [[0, 1], [0, 1], [0.5, 2], [0.5, 2], [0, 1], [0, 1], [0.5, 2], [0.5, 2]],
    ),
    83: Equation("II.37.1", "mu chi B", "B*mu*(chi + 1)", [[0, 1], [0, 1], [0, 1]]),
    84: Equation("II.38.3", "Y A x d", "A*Y*x/d", [[0, 1], [0, 1], [0, 1], [0.5, 2]]),
    85: Equation("II.38.14", "Y sigma", "Y/(2*sigma + 2)", [[0, 1], [0, 1]]),
    86: Equation("III.4.32", "hbar omega k_b T", "1/(exp(hbar*omega/(T*k_b)) - 1)", [[0.5, 1], [0.5, 1], [0.5, 2], [0.5, 2]]),
    87: Equation("III.4.33", "hbar omega k_b T", "hbar*omega/(exp(hbar*omega/(T*k_b)) - 1)", [[0, 1], [0, 1], [0.5, 2], [0.5, 2]]),
    88: Equation("III.7.38", "mu B hbar", "2*B*mu/hbar", [[0, 1], [0, 1], [0.5, 2]]),
    89: Equation("III.8.54", "E t hbar", "sin(E*t/hbar)**2", [[0, 2 * PI], [0, 1], [0.5, 2]]),
    90: Equation(
        "III.9.52", "p_d E_f t hbar omega omega_0", "4*E_f*p_d*sin(t*(omega - omega_0)/2)**2/(hbar*t*(omega - omega_0)**2)",
        [[0, 1], [0, 1], [0, 1], [0.5, 2], [0, PI], [0, PI]],
    ),
    91: Equation("III.10.19", "mu B_x B_y B_z", "mu*sqrt(B_x**2 + B_y**2 + B_z**2)", [[0, 1], [0, 1], [0, 1], [0, 1]]),
    92: Equation("III.12.43", "n hbar", "hbar*n", [[0, 1], [0, 1]]),
    93: Equation("III.13.18", "E d k hbar", "2*E*d**2*k/hbar", [[0, 1], [0, 1], [0, 1], [0.5, 2]]),
    94: Equation("III.14.14", "I_0 q V_e k_b T", "I_0*(exp(V_e*q/(T*k_b)) - 1)", [[0, 1], [0, 1], [0, 1], [0.5, 2], [0.5, 2]]),
    95: Equation("III.15.12", "U k d", "2*U*(1 - cos(d*k))", [[0, 1], [0, 2 * PI], [0, 1]]),
    96: Equation("III.15.14", "hbar E d", "hbar**2/(2*E*d**2)", [[0, 1], [0.5, 2], [0.5, 2]]),
    97: Equation("III.15.27", "alpha n d", "2*pi*alpha/(d*n)", [[0, 1], [0.5, 2], [0.5, 2]]),
    98: Equation("III.17.37", "beta alpha theta", "beta*(alpha*cos(theta) + 1)", [[0, 1], [0, 1], [0, 2 * PI]]),
    99: Equation(
        "III.19.51", "m q epsilon hbar n", "-m*q**4/(32*pi**2*epsilon**2*hbar**2*n**2)",
        [[0, 1], [0, 1], [0.5, 2], [0.5, 2], [0.5, 2]],
    ),
    100: Equation("III.21.20", "rho q A m", "-A*q*rho/m", [[0, 1], [0, 1], [0, 1], [0.5, 2]]),
    101: Equation(
        "Rutherford scattering", "Z_1 Z_2 alpha hbar c E theta", "Z_1**2*Z_2**2*alpha**2*c**2*hbar**2/(16*E**2*sin(theta/2)**4)",
        [[0, 1], [0, 1], [0, 1], [0, 1], [0, 1], [0.5, 2], [0.1 * PI, 0.9 * PI]],
    ),
    102: Equation(
        "Friedmann equation", "G rho k_f c a_f", "sqrt(8*pi*G*rho/3 - c**2*k_f/a_f**2)",
        [[1, 2], [1, 2], [0, 1], [0, 1], [1, 2]],
    ),
    103: Equation("Compton scattering", "E m c theta", "E/(E*(1 - cos(theta))/(c**2*m) + 1)", [[0, 1], [0.5, 2], [0.5, 2], [0, 2 * PI]]),
    104: Equation(
        "Radiated gravitational wave power", "G c m_1 m_2 r", "-6.4*G**4*m_1**2*m_2**2*(m_1 + m_2)/(c**5*r**5)",
        [[0, 1], [0.5, 2], [0, 1], [0, 1], [0.5, 2]],
    ),
    105: Equation(
        "Relativistic aberration", "theta_2 v c", "acos((cos(theta_2) - v/c)/(1 - v*cos(theta_2)/c))",
        [[0, PI], [0, 1], [1, 2]],
    ),
    106: Equation(
        "N-slit diffraction", "I_0 alpha delta N", "4*I_0*sin(alpha/2)**2*sin(N*delta/2)**2/(alpha**2*sin(delta/2)**2)",
        [[0, 1], [0.1 * PI, 0.9 * PI], [0.1 * PI, 0.9 * PI], [0.5, 1]],
    ),
    107: Equation("Goldstein 3.16", "m E U L r", "sqrt(2)*sqrt((E - L**2/(2*m*r**2) - U)/m)", [[1, 2], [2, 3], [0, 1], [0, 1], [1, 2]]),
    108: Equation(
        "Goldstein 3.55", "m k_G L E theta_1 theta_2", "k_G*m*(sqrt(2*E*L**2/(k_G**2*m) + 1)*cos(theta_1 - theta_2) + 1)/L**2",
        [[0.5, 2], [0.5, 2], [0.5, 2], [0, 1], [0, 2 * PI], [0, 2 * PI]],
    ),
    109: Equation(
        "Goldstein 3.64 (ellipse)", "d alpha theta_1 theta_2", "d*(1 - alpha**2)/(alpha*cos(theta_1 - theta_2) + 1)",
        [[0, 1], [0, 0.9], [0, 2 * PI], [0, 2 * PI]],
    ),
    110: Equation("Goldstein 3.74 (Kepler)", "d G m_1 m_2", "2*pi*d**1.5/sqrt(G*(m_1 + m_2))", [[0, 1], [0.5, 2], [0.5, 2], [0.5, 2]]),
    111: Equation(
        "Goldstein 3.99", "epsilon E L m Z_1 Z_2 q", "sqrt(2*E*L**2*epsilon**2/(Z_1**2*Z_2**2*m*q**4) + 1)",
        [[0, 1], [0, 1], [0, 1], [0.5, 2], [0.5, 2], [0.5, 2], [0.5, 2]],
    ),
    112: Equation("Goldstein 8.56", "p q A c m V_e", "V_e*q + sqrt(c**4*m**2 + c**2*(-A*q + p)**2)", [0, 1]),
    113: Equation(
        "Goldstein 12.80", "m p omega x alpha y", "(m**2*omega**2*x**2*(alpha*y/x + 1) + p**2)/(2*m)",
        [[0.5, 2], [0, 1], [0, 1], [0, 1], [0, 1], [0.5, 2]],
    ),
    114: Equation(
        "Jackson 2.11", "q epsilon y V_e d", "q*(4*pi*V_e*d*epsilon - d*q*y**3/(-d**2 + y**2)**2)/(4*pi*epsilon*y**2)",
        [[0, 1], [0.5, 2], [1, 2], [0, 1], [0, 1]],
    ),
    115: Equation("Jackson 3.45", "q r d alpha", "q/sqrt(d**2 - 2*d*r*cos(alpha) + r**2)", [[0, 1], [0, 1], [0, 1], [0, 2 * PI]]),
    116: Equation(
        "Jackson 4.60", "E_f theta alpha d r", "E_f*(d**3*(alpha - 1)/(r**2*(alpha + 2)) - r)*cos(theta)",
        [[0, 1], [0, 2 * PI], [0, 2], [0, 1], [0.5, 2]],
    ),
    117: Equation(
        "Jackson 11.38 (Doppler)", "omega v c theta", "omega*sqrt(1 - v**2/c**2)/(1 + v*cos(theta)/c)",
        [[0, 1], [0, 1], [1, 2], [0, 2 * PI]],
    ),
    118: Equation(
        "Weinberg 15.2.1", "G c k_f a_f H", "3/(8*pi*G)*(H**2 + c**2*k_f/a_f**2)",
        [[0.5, 2], [0, 1], [0, 1], [0.5, 2], [0, 1]],
    ),
    119: Equation(
        "Weinberg 15.2.2", "G c k_f a_f H alpha", "-1/(8*pi*G)*(H**2*c**2*(1 - 2*alpha) + c**4*k_f/a_f**2)",
        [[0.5, 2], [0, 1], [0, 1], [0.5, 2], [0, 1], [0, 1]],
    ),
    120: Equation(
        "Schwarz 13.132 (Klein-Nishina)", "alpha hbar m c omega_0 omega theta",
        "pi*alpha**2*hbar**2*omega_0**2*(omega/omega_0 - sin(theta)**2 + omega_0/omega)/(c**2*m**2*omega**2)",
        [[0, 1], [0, 1], [0.5, 2], [0.5, 2], [0.5, 2], [0.5, 2], [0, 2 * PI]],
    ),
}
# fmt: on
"""Equations by number, and pykan's equation ``'test'``."""

OLD_NAMES = {"I.10.9": 60, "Rutherforld scattering": 101, "Friedman equation": 102}
"""Numbers of equations by the names that pykan uses for others or spells differently."""


def get_feynman_dataset(name: int | str) -> tuple[tuple[sympy.Symbol, ...], sympy.Expr, TorchFormula, list[Any]]:
    """Return one of the Feynman equations.

    Args:
        name: number from 1 to 120, name such as ``'I.12.11'`` or ``'Goldstein 8.56'``, or ``'test'``.

    Returns:
        ``(symbols, expr, f, ranges)``: the variables in the order of the columns, the formula, the function of a tensor ``(N, n)`` to
        ``(N, 1)``, and the ranges for `create_dataset`, one pair ``[low, high]`` per variable or one for all.

    Raises:
        ValueError: if there is no such equation.

    >>> symbols, expr, f, ranges = get_feynman_dataset("I.12.11")
    >>> expr
    q*(B*v*sin(theta) + E_f)
    >>> import torch
    >>> f(torch.ones(2, 5)).shape, len(ranges)
    (torch.Size([2, 1]), 5)
    """
    equation = EQUATIONS[_number(name)]
    table = symbol_table(equation.variables.split())
    symbols, expr = tuple(table.values()), parsed(equation.formula, table)
    return symbols, expr, TorchFormula(expr, symbols), copy.deepcopy(equation.ranges)


def _number(name: int | str) -> int | str:
    """Return the key of an equation in the table."""
    if isinstance(name, Integral) and not isinstance(name, bool) and int(name) in EQUATIONS:
        return int(name)
    names = {equation.name: key for key, equation in EQUATIONS.items()} | OLD_NAMES
    if isinstance(name, str) and name in names:
        return names[name]
    close = get_close_matches(str(name), names, n=3, cutoff=0.5)
    hint = f" Did you mean {' or '.join(map(repr, close))}?" if close else ""
    raise ValueError(f"there is no Feynman equation {name!r}; expected a number from 1 to 120, 'test', or a name such as 'I.12.11'.{hint}")
