r"""The Feynman equations as posed in "AI Feynman" and SRBench, numbered as in `kan.datasets.feynman`.

The formulas are those of `kan.datasets.feynman` in other letters, with these exceptions: Planck's constant is ``h`` here and
``hbar = h/(2 pi)`` there; pykan omits factors in 32 and 115; and ``x/y`` in 113 is ``y/x`` there. The ranges keep every variable away from
zero.

Source
    S.-M. Udrescu and M. Tegmark, "AI Feynman: a physics-inspired method for symbolic regression", 2020, arXiv:1905.11481, and
    S.-M. Udrescu et al., "AI Feynman 2.0", 2020, arXiv:2006.10782, for 101 to 120; SRBench: W. La Cava et al., "Contemporary symbolic
    regression methods and their relative performance", 2021, arXiv:2107.14351.
"""

from __future__ import annotations

from kan.datasets.feynman import Equation

__all__ = ["AI_FEYNMAN", "NOT_IN_SRBENCH"]

# fmt: off
AI_FEYNMAN: dict[int, Equation] = {
    1: Equation("I.6.2a", "theta", "exp(-theta**2/2)/sqrt(2*pi)", [1, 3]),
    2: Equation("I.6.2", "sigma theta", "exp(-(theta/sigma)**2/2)/(sqrt(2*pi)*sigma)", [1, 3]),
    3: Equation("I.6.2b", "sigma theta theta1", "exp(-((theta - theta1)/sigma)**2/2)/(sqrt(2*pi)*sigma)", [1, 3]),
    4: Equation("I.8.14", "x1 x2 y1 y2", "sqrt((x2 - x1)**2 + (y2 - y1)**2)", [1, 5]),
    5: Equation(
        "I.9.18", "m1 m2 G x2 y2 z2 x1 y1 z1", "G*m1*m2/((x2 - x1)**2 + (y2 - y1)**2 + (z2 - z1)**2)",
        [[1, 2], [1, 2], [1, 2], [1, 2], [1, 2], [1, 2], [3, 4], [3, 4], [3, 4]],
    ),
    6: Equation("I.10.7", "m_0 v c", "m_0/sqrt(1 - v**2/c**2)", [[1, 5], [1, 2], [3, 10]]),
    7: Equation("I.11.19", "x1 x2 x3 y1 y2 y3", "x1*y1 + x2*y2 + x3*y3", [1, 5]),
    8: Equation("I.12.1", "mu Nn", "mu*Nn", [1, 5]),
    9: Equation("I.12.2", "q1 q2 epsilon r", "q1*q2*r/(4*pi*epsilon*r**3)", [1, 5]),
    10: Equation("I.12.4", "q1 epsilon r", "q1*r/(4*pi*epsilon*r**3)", [1, 5]),
    11: Equation("I.12.5", "q2 Ef", "q2*Ef", [1, 5]),
    12: Equation("I.12.11", "q Ef B v theta", "q*(Ef + B*v*sin(theta))", [1, 5]),
    13: Equation("I.13.4", "m v u w", "1/2*m*(v**2 + u**2 + w**2)", [1, 5]),
    14: Equation("I.13.12", "m1 m2 r1 r2 G", "G*m1*m2*(1/r2 - 1/r1)", [1, 5]),
    15: Equation("I.14.3", "m g z", "m*g*z", [1, 5]),
    16: Equation("I.14.4", "k_spring x", "1/2*k_spring*x**2", [1, 5]),
    17: Equation("I.15.3x", "x u t c", "(x - u*t)/sqrt(1 - u**2/c**2)", [[5, 10], [1, 2], [1, 2], [3, 20]]),
    18: Equation("I.15.3t", "x t c u", "(t - u*x/c**2)/sqrt(1 - u**2/c**2)", [[1, 5], [1, 5], [3, 10], [1, 2]]),
    19: Equation("I.15.1", "m_0 v c", "m_0*v/sqrt(1 - v**2/c**2)", [[1, 5], [1, 2], [3, 10]]),
    20: Equation("I.16.6", "c v u", "(u + v)/(1 + u*v/c**2)", [1, 5]),
    21: Equation("I.18.4", "m1 m2 r1 r2", "(m1*r1 + m2*r2)/(m1 + m2)", [1, 5]),
    22: Equation("I.18.12", "r F theta", "r*F*sin(theta)", [[1, 5], [1, 5], [0, 5]]),
    23: Equation("I.18.14", "m r v theta", "m*r*v*sin(theta)", [1, 5]),
    24: Equation("I.24.6", "m omega omega_0 x", "1/2*m*(omega**2 + omega_0**2)*1/2*x**2", [1, 3]),
    25: Equation("I.25.13", "q C", "q/C", [1, 5]),
    26: Equation("I.26.2", "n theta2", "asin(n*sin(theta2))", [[0, 1], [1, 5]]),
    27: Equation("I.27.6", "d1 d2 n", "1/(1/d1 + n/d2)", [1, 5]),
    28: Equation("I.29.4", "omega c", "omega/c", [1, 10]),
    29: Equation("I.29.16", "x1 x2 theta1 theta2", "sqrt(x1**2 + x2**2 - 2*x1*x2*cos(theta1 - theta2))", [1, 5]),
    30: Equation("I.30.3", "Int_0 theta n", "Int_0*sin(n*theta/2)**2/sin(theta/2)**2", [1, 5]),
    31: Equation("I.30.5", "lambd d n", "asin(lambd/(n*d))", [[1, 2], [2, 5], [1, 5]]),
    32: Equation("I.32.5", "q a epsilon c", "q**2*a**2/(6*pi*epsilon*c**3)", [1, 5]),
    33: Equation(
        "I.32.17", "epsilon c Ef r omega omega_0", "(1/2*epsilon*c*Ef**2)*(8*pi*r**2/3)*(omega**4/(omega**2 - omega_0**2)**2)",
        [[1, 2], [1, 2], [1, 2], [1, 2], [1, 2], [3, 5]],
    ),
    34: Equation("I.34.8", "q v B p", "q*v*B/p", [1, 5]),
    35: Equation("I.34.1", "c v omega_0", "omega_0/(1 - v/c)", [[3, 10], [1, 2], [1, 5]]),
    36: Equation("I.34.14", "c v omega_0", "(1 + v/c)/sqrt(1 - v**2/c**2)*omega_0", [[3, 10], [1, 2], [1, 5]]),
    37: Equation("I.34.27", "omega h", "(h/(2*pi))*omega", [1, 5]),
    38: Equation("I.37.4", "I1 I2 delta", "I1 + I2 + 2*sqrt(I1*I2)*cos(delta)", [1, 5]),
    39: Equation("I.38.12", "m q h epsilon", "4*pi*epsilon*(h/(2*pi))**2/(m*q**2)", [1, 5]),
    40: Equation("I.39.1", "pr V", "3/2*pr*V", [1, 5]),
    41: Equation("I.39.11", "gamma pr V", "1/(gamma - 1)*pr*V", [[2, 5], [1, 5], [1, 5]]),
    42: Equation("I.39.22", "n T V kb", "n*kb*T/V", [1, 5]),
    43: Equation("I.40.1", "n_0 m x T g kb", "n_0*exp(-m*g*x/(kb*T))", [1, 5]),
    44: Equation("I.41.16", "omega T h kb c", "h/(2*pi)*omega**3/(pi**2*c**2*(exp((h/(2*pi))*omega/(kb*T)) - 1))", [1, 5]),
    45: Equation("I.43.16", "mu_drift q Volt d", "mu_drift*q*Volt/d", [1, 5]),
    46: Equation("I.43.31", "mob T kb", "mob*kb*T", [1, 5]),
    47: Equation("I.43.43", "gamma kb A v", "1/(gamma - 1)*kb*v/A", [[2, 5], [1, 5], [1, 5], [1, 5]]),
    48: Equation("I.44.4", "n kb T V1 V2", "n*kb*T*log(V2/V1)", [1, 5]),
    49: Equation("I.47.23", "gamma pr rho", "sqrt(gamma*pr/rho)", [1, 5]),
    50: Equation("I.48.2", "m v c", "m*c**2/sqrt(1 - v**2/c**2)", [[1, 5], [1, 2], [3, 10]]),
    51: Equation("I.50.26", "x1 omega t alpha", "x1*(cos(omega*t) + alpha*cos(omega*t)**2)", [1, 3]),
    52: Equation("II.2.42", "kappa T1 T2 A d", "kappa*(T2 - T1)*A/d", [1, 5]),
    53: Equation("II.3.24", "Pwr r", "Pwr/(4*pi*r**2)", [1, 5]),
    54: Equation("II.4.23", "q epsilon r", "q/(4*pi*epsilon*r)", [1, 5]),
    55: Equation("II.6.11", "epsilon p_d theta r", "1/(4*pi*epsilon)*p_d*cos(theta)/r**2", [1, 3]),
    56: Equation("II.6.15a", "epsilon p_d r x y z", "p_d/(4*pi*epsilon)*3*z/r**5*sqrt(x**2 + y**2)", [1, 3]),
    57: Equation("II.6.15b", "epsilon p_d theta r", "p_d/(4*pi*epsilon)*3*cos(theta)*sin(theta)/r**3", [1, 3]),
    58: Equation("II.8.7", "q epsilon d", "3/5*q**2/(4*pi*epsilon*d)", [1, 5]),
    59: Equation("II.8.31", "epsilon Ef", "epsilon*Ef**2/2", [1, 5]),
    60: Equation("II.10.9", "sigma_den epsilon chi", "sigma_den/epsilon*1/(1 + chi)", [1, 5]),
    61: Equation("II.11.3", "q Ef m omega_0 omega", "q*Ef/(m*(omega_0**2 - omega**2))", [[1, 3], [1, 3], [1, 3], [3, 5], [1, 2]]),
    62: Equation("II.11.17", "n_0 kb T theta p_d Ef", "n_0*(1 + p_d*Ef*cos(theta)/(kb*T))", [1, 3]),
    63: Equation("II.11.20", "n_rho p_d Ef kb T", "n_rho*p_d**2*Ef/(3*kb*T)", [1, 5]),
    64: Equation("II.11.27", "n alpha epsilon Ef", "n*alpha/(1 - (n*alpha/3))*epsilon*Ef", [[0, 1], [0, 1], [1, 2], [1, 2]]),
    65: Equation("II.11.28", "n alpha", "1 + n*alpha/(1 - (n*alpha/3))", [0, 1]),
    66: Equation("II.13.17", "epsilon c I r", "1/(4*pi*epsilon*c**2)*2*I/r", [1, 5]),
    67: Equation("II.13.23", "rho_c_0 v c", "rho_c_0/sqrt(1 - v**2/c**2)", [[1, 5], [1, 2], [3, 10]]),
    68: Equation("II.13.34", "rho_c_0 v c", "rho_c_0*v/sqrt(1 - v**2/c**2)", [[1, 5], [1, 2], [3, 10]]),
    69: Equation("II.15.4", "mom B theta", "-mom*B*cos(theta)", [1, 5]),
    70: Equation("II.15.5", "p_d Ef theta", "-p_d*Ef*cos(theta)", [1, 5]),
    71: Equation("II.21.32", "q epsilon r v c", "q/(4*pi*epsilon*r*(1 - v/c))", [[1, 5], [1, 5], [1, 5], [1, 2], [3, 10]]),
    72: Equation("II.24.17", "omega c d", "sqrt(omega**2/c**2 - pi**2/d**2)", [[4, 6], [1, 2], [2, 4]]),
    73: Equation("II.27.16", "epsilon c Ef", "epsilon*c*Ef**2", [1, 5]),
    74: Equation("II.27.18", "epsilon Ef", "epsilon*Ef**2", [1, 5]),
    75: Equation("II.34.2a", "q v r", "q*v/(2*pi*r)", [1, 5]),
    76: Equation("II.34.2", "q v r", "q*v*r/2", [1, 5]),
    77: Equation("II.34.11", "g_ q B m", "g_*q*B/(2*m)", [1, 5]),
    78: Equation("II.34.29a", "q h m", "q*h/(4*pi*m)", [1, 5]),
    79: Equation("II.34.29b", "g_ h Jz mom B", "g_*mom*B*Jz/(h/(2*pi))", [1, 5]),
    80: Equation("II.35.18", "n_0 kb T mom B", "n_0/(exp(mom*B/(kb*T)) + exp(-mom*B/(kb*T)))", [1, 3]),
    81: Equation("II.35.21", "n_rho mom B kb T", "n_rho*mom*tanh(mom*B/(kb*T))", [1, 5]),
    82: Equation("II.36.38", "mom H kb T alpha epsilon c M", "mom*H/(kb*T) + (mom*alpha)/(epsilon*c**2*kb*T)*M", [1, 3]),
    83: Equation("II.37.1", "mom B chi", "mom*(1 + chi)*B", [1, 5]),
    84: Equation("II.38.3", "Y A d x", "Y*A*x/d", [1, 5]),
    85: Equation("II.38.14", "Y sigma", "Y/(2*(1 + sigma))", [1, 5]),
    86: Equation("III.4.32", "h omega kb T", "1/(exp((h/(2*pi))*omega/(kb*T)) - 1)", [1, 5]),
    87: Equation("III.4.33", "h omega kb T", "(h/(2*pi))*omega/(exp((h/(2*pi))*omega/(kb*T)) - 1)", [1, 5]),
    88: Equation("III.7.38", "mom B h", "2*mom*B/(h/(2*pi))", [1, 5]),
    89: Equation("III.8.54", "E_n t h", "sin(E_n*t/(h/(2*pi)))**2", [[1, 2], [1, 2], [1, 4]]),
    90: Equation(
        "III.9.52", "p_d Ef t h omega omega_0", "(p_d*Ef*t/(h/(2*pi)))*sin((omega - omega_0)*t/2)**2/((omega - omega_0)*t/2)**2",
        [[1, 3], [1, 3], [1, 3], [1, 3], [1, 5], [1, 5]],
    ),
    91: Equation("III.10.19", "mom Bx By Bz", "mom*sqrt(Bx**2 + By**2 + Bz**2)", [1, 5]),
    92: Equation("III.12.43", "n h", "n*(h/(2*pi))", [1, 5]),
    93: Equation("III.13.18", "E_n d k h", "2*E_n*d**2*k/(h/(2*pi))", [1, 5]),
    94: Equation("III.14.14", "I_0 q Volt kb T", "I_0*(exp(q*Volt/(kb*T)) - 1)", [[1, 5], [1, 2], [1, 2], [1, 2], [1, 2]]),
    95: Equation("III.15.12", "U k d", "2*U*(1 - cos(k*d))", [1, 5]),
    96: Equation("III.15.14", "h E_n d", "(h/(2*pi))**2/(2*E_n*d**2)", [1, 5]),
    97: Equation("III.15.27", "alpha n d", "2*pi*alpha/(n*d)", [1, 5]),
    98: Equation("III.17.37", "beta alpha theta", "beta*(1 + alpha*cos(theta))", [1, 5]),
    99: Equation("III.19.51", "m q h n epsilon", "-m*q**4/(2*(4*pi*epsilon)**2*(h/(2*pi))**2)*(1/n**2)", [1, 5]),
    100: Equation("III.21.20", "rho_c_0 q A_vec m", "-rho_c_0*q*A_vec/m", [1, 5]),
    101: Equation(
        "test_1 (Rutherford scattering)", "Z_1 Z_2 alpha hbar c E_n theta", "(Z_1*Z_2*alpha*hbar*c/(4*E_n*sin(theta/2)**2))**2",
        [[1, 2], [1, 2], [1, 2], [1, 2], [1, 2], [1, 3], [1, 3]],
    ),
    102: Equation(
        "test_7 (Friedmann equation)", "G rho d alpha c", "sqrt(8*pi*G*rho/3 - alpha*c**2/d**2)",
        [[1, 3], [1, 3], [1, 3], [1, 2], [1, 2]],
    ),
    103: Equation("test_8 (Compton Scattering)", "E_n m c theta", "E_n/(1 + E_n/(m*c**2)*(1 - cos(theta)))", [1, 3]),
    104: Equation(
        "test_9 (Radiated gravitational wave power)", "G c r m1 m2", "-32/5*G**4/c**5*(m1*m2)**2*(m1 + m2)/r**5",
        [[1, 2], [1, 2], [1, 2], [1, 5], [1, 5]],
    ),
    105: Equation(
        "test_10 (Relativistic aberration)", "c v theta2", "acos((cos(theta2) - v/c)/(1 - v/c*cos(theta2)))",
        [[4, 6], [1, 3], [1, 3]],
    ),
    106: Equation(
        "test_11 (N-slit diffraction)", "I_0 alpha delta n", "I_0*(sin(alpha/2)*sin(n*delta/2)/(alpha/2*sin(delta/2)))**2",
        [[1, 3], [1, 3], [1, 3], [1, 2]],
    ),
    107: Equation(
        "test_4 (3.16 Goldstein)", "m U L r E_n", "sqrt(2/m*(E_n - U - L**2/(2*m*r**2)))",
        [[1, 3], [1, 3], [1, 3], [1, 3], [8, 12]],
    ),
    108: Equation(
        "test_2 (3.55 Goldstein)", "m k_G L E_n theta1 theta2", "m*k_G/L**2*(1 + sqrt(1 + 2*E_n*L**2/(m*k_G**2))*cos(theta1 - theta2))",
        [[1, 3], [1, 3], [1, 3], [1, 3], [0, 6], [0, 6]],
    ),
    109: Equation(
        "test_3 (3.64 Goldstein)", "d alpha theta1 theta2", "d*(1 - alpha**2)/(1 + alpha*cos(theta1 - theta2))",
        [[1, 3], [2, 4], [4, 5], [4, 5]],
    ),
    110: Equation("test_5 (3.74 Goldstein)", "d G m1 m2", "2*pi*d**(3/2)/sqrt(G*(m1 + m2))", [1, 3]),
    111: Equation("test_6 (3.99 Goldstein)", "epsilon L m Z_1 Z_2 q E_n", "sqrt(1 + 2*epsilon**2*E_n*L**2/(m*(Z_1*Z_2*q**2)**2))", [1, 3]),
    112: Equation("test_16 (8.56 Goldstein)", "m c p q A_vec Volt", "sqrt((p - q*A_vec)**2*c**2 + m**2*c**4) + q*Volt", [1, 5]),
    113: Equation("test_17 (12.80' Goldstein)", "m omega p y x alpha", "1/(2*m)*(p**2 + m**2*omega**2*x**2*(1 + alpha*x/y))", [1, 5]),
    114: Equation(
        "test_12 (2.11 Jackson)", "q Volt epsilon y d", "q/(4*pi*epsilon*y**2)*(4*pi*epsilon*Volt*d - q*d*y**3/(y**2 - d**2)**2)",
        [[1, 5], [1, 5], [1, 5], [1, 3], [4, 6]],
    ),
    115: Equation(
        "test_13 (3.45 Jackson)", "q epsilon r d alpha", "1/(4*pi*epsilon)*q/sqrt(r**2 + d**2 - 2*r*d*cos(alpha))",
        [[1, 5], [1, 5], [1, 3], [4, 6], [0, 6]],
    ),
    116: Equation(
        "test_14 (4.60' Jackson)", "Ef r d alpha theta", "Ef*cos(theta)*(-r + d**3/r**2*(alpha - 1)/(alpha + 2))",
        [[1, 5], [1, 5], [1, 5], [1, 5], [0, 6]],
    ),
    117: Equation(
        "test_15 (11.38 Jackson)", "c v omega theta", "sqrt(1 - v**2/c**2)*omega/(1 + v/c*cos(theta))",
        [[5, 20], [1, 3], [1, 5], [0, 6]],
    ),
    118: Equation("test_18 (15.2.1 Weinberg)", "G k_f r H_G c", "3/(8*pi*G)*(c**2*k_f/r**2 + H_G**2)", [1, 5]),
    119: Equation("test_19 (15.2.2 Weinberg)", "G k_f r H_G alpha c", "-1/(8*pi*G)*(c**4*k_f/r**2 + H_G**2*c**2*(1 - 2*alpha))", [1, 5]),
    120: Equation(
        "test_20 (Klein-Nishina)", "omega omega_0 alpha h m c beta",
        "1/(4*pi)*alpha**2*h**2/(m**2*c**2)*(omega_0/omega)**2*(omega_0/omega + omega/omega_0 - sin(beta)**2)",
        [[1, 5], [1, 5], [1, 5], [1, 5], [1, 5], [1, 5], [0, 6]],
    ),
}
# fmt: on
"""Equations by number, with ``[low, high]`` for each variable, or one such pair for all."""

NOT_IN_SRBENCH = (26, 31, 62, 105)
"""Numbers of the equations that SRBench omits, three of them because of inverse sines and cosines; 116 remain."""
