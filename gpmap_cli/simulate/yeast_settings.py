"""Settings of the synthetic yeast data. No array library is imported here."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from gpmap_cli.errors import Problem, did_you_mean
from gpmap_cli.settings import Rule, Ruled, setting
from gpmap_cli.simulate.apportionment import apportion
from gpmap_cli.simulate.yeast_environments import ENVIRONMENTS, VarianceShares

# Chromosomes I to XVI: length in bp of the reference genome sacCer3, SNPs as published (Nguyen Ba et al. 2022).
CHROMOSOMES = {
    "chrI": (230_218, 995),
    "chrII": (813_184, 3_735),
    "chrIII": (316_620, 558),
    "chrIV": (1_531_933, 4_035),
    "chrV": (576_874, 1_859),
    "chrVI": (270_161, 1_288),
    "chrVII": (1_090_940, 3_931),
    "chrVIII": (562_643, 1_638),
    "chrIX": (439_888, 2_078),
    "chrX": (745_751, 2_974),
    "chrXI": (666_816, 3_239),
    "chrXII": (1_078_177, 4_310),
    "chrXIII": (924_431, 2_945),
    "chrXIV": (784_333, 1_799),
    "chrXV": (1_091_291, 4_289),
    "chrXVI": (948_066, 1_921),
}
NUM_SNPS = sum(num_snps for _, num_snps in CHROMOSOMES.values())  # 41,594
_NUM_QTL, _NUM_PAIRS, _NUM_TRIPLES = 400, 600, 200


@dataclass(frozen=True)
class YeastSyntheticData(Ruled):
    """How many segregants and loci, and what makes their phenotypes."""

    name: str = "yeast_synthetic"
    num_samples: int = setting(10_000, minimum=1)
    num_loci: int | None = setting(None, minimum=len(CHROMOSOMES), maximum=NUM_SNPS)
    cm_per_kb: float = setting(0.30, minimum=1e-6, maximum=100)
    environments: tuple[str, ...] | None = None
    heritability: float | None = setting(None, above=0, maximum=1)
    pairwise_share: float | None = setting(None, minimum=0, maximum=1)
    third_order_share: float | None = setting(None, minimum=0, maximum=1)
    num_qtl: int | None = setting(None, minimum=1, maximum=NUM_SNPS)
    num_large_qtl: int = setting(12, minimum=0)
    large_qtl_share: float = setting(0.3, minimum=0, maximum=1)
    num_pairs: int | None = setting(None, minimum=1, maximum=20_000)
    num_triples: int | None = setting(None, minimum=1, maximum=20_000)
    environment_correlation: float = setting(0.4, minimum=0, maximum=1)
    temperature_scale: float = setting(10.0, above=0, maximum=1e6)
    phenotype_sd: float = setting(0.07, minimum=1e-6, maximum=1e6)
    error_variation: float = setting(0.5, minimum=0, maximum=3)
    missing: float | None = setting(None, minimum=0, below=1)
    seed: int | None = setting(None, minimum=0, maximum=2**63 - 1)  # it is written into the file as int64

    def rules(self) -> tuple[Rule, ...]:
        return self._environment_problems, self._share_problems, self._term_problems

    @property
    def environment_names(self) -> tuple[str, ...]:
        """The environments asked for, in the order asked for."""
        return tuple(ENVIRONMENTS) if self.environments is None else self.environments

    @property
    def num_snps(self) -> int:
        """L, the loci of the map."""
        return NUM_SNPS if self.num_loci is None else self.num_loci

    def loci_of_chromosomes(self) -> list[int]:
        """Loci on each of the 16 chromosomes: the published numbers of SNPs, or fewer in the same proportions."""
        return apportion(self.num_snps, [num_snps for _, num_snps in CHROMOSOMES.values()], least=1)

    def qtl_of_chromosomes(self) -> list[int]:
        """QTL on each of the 16 chromosomes, in proportion to its loci."""
        wanted = min(_NUM_QTL, self.num_snps) if self.num_qtl is None else self.num_qtl
        return apportion(wanted, self.loci_of_chromosomes())

    def num_terms(self, order: int) -> int:
        """Terms of an epistasis order: 1 QTL, 2 pairs, 3 triples."""
        if order == 1:
            return sum(self.qtl_of_chromosomes())
        given, default = ((self.num_pairs, _NUM_PAIRS), (self.num_triples, _NUM_TRIPLES))[order - 2]
        return min(default, self._most_terms(order)) if given is None else given

    def shares(self, environment: str) -> VarianceShares:
        """What makes the phenotype vary in this environment, with what the settings say of all environments."""
        total = ENVIRONMENTS[environment].shares.heritability if self.heritability is None else self.heritability
        pairwise, third_order = self._interaction_shares(environment)
        additive = max(0.0, round(1 - pairwise - third_order, 12))
        return VarianceShares(total * additive, total * pairwise, total * third_order)

    def missing_fraction(self, environment: str) -> float:
        """The expected fraction of samples without a phenotype in this environment."""
        return ENVIRONMENTS[environment].missing if self.missing is None else self.missing

    def _interaction_shares(self, environment: str) -> tuple[float, float]:
        """Of the genetic variance, the shares of pairs and of triples."""
        own = ENVIRONMENTS[environment].shares
        return (
            own.pairwise / own.heritability if self.pairwise_share is None else self.pairwise_share,
            own.third_order / own.heritability if self.third_order_share is None else self.third_order_share,
        )

    def _most_terms(self, order: int) -> int:
        """A quarter of all sets of `order` QTL on as many chromosomes: drawing so few different ones ends soon."""
        sets = [1, *[0] * order]  # elementary symmetric polynomials of the QTL on each chromosome
        for count in self.qtl_of_chromosomes():
            for size in range(order, 0, -1):
                sets[size] += count * sets[size - 1]
        return sets[order] // 4

    def _environment_problems(self, prefix: str) -> Iterator[Problem]:
        key = f"{prefix}environments"
        if self.environments is None:
            return
        if not self.environments:
            yield Problem(f"{key} is empty", f"leave {key} out to take all 18")
        if len(set(self.environments)) < len(self.environments):
            yield Problem(f"{key} names one twice", "name each only once")
        for name in self.environments:
            if name not in ENVIRONMENTS:
                yield Problem(
                    f"`{name}` is not an environment of {self.name}", did_you_mean(name, ENVIRONMENTS, f"{key}=")
                )

    def _share_problems(self, prefix: str) -> Iterator[Problem]:
        """A share that is set must leave room for the other one, which is set too or from the table."""
        for name in filter(ENVIRONMENTS.__contains__, self.environment_names):
            together = sum(self._interaction_shares(name))
            if together > 1 + 1e-9:
                yield Problem(
                    f"{prefix}pairwise_share and {prefix}third_order_share add up to {together:.4g} in {name}",
                    "they are shares of the genetic variance: set both, together at most 1",
                )
                return

    def _term_problems(self, prefix: str) -> Iterator[Problem]:
        if self.num_qtl is not None and self.num_qtl > self.num_snps:
            yield Problem(
                f"{prefix}num_qtl must be at most {prefix}num_loci ({self.num_snps}), got `{self.num_qtl}`",
                f"lower {prefix}num_qtl or raise {prefix}num_loci",
            )
            return
        num_qtl = self.num_terms(1)
        if self.num_large_qtl > num_qtl:
            yield Problem(
                f"{prefix}num_large_qtl must be at most the number of QTL ({num_qtl}), got `{self.num_large_qtl}`",
                f"lower {prefix}num_large_qtl or raise {prefix}num_qtl",
            )
        known = [name for name in self.environment_names if name in ENVIRONMENTS]
        for order, key, share in (
            (2, f"{prefix}num_pairs", f"{prefix}pairwise_share"),
            (3, f"{prefix}num_triples", f"{prefix}third_order_share"),
        ):
            if not any(self.shares(name).of_order(order) for name in known):
                continue
            most = self._most_terms(order)
            if most == 0 or self.num_terms(order) > most:
                yield Problem(
                    f"{key} must be at most {most} with {num_qtl} QTL, got `{self.num_terms(order)}`",
                    f"a quarter of the sets of {order} QTL on different chromosomes:"
                    f" lower {key}, raise {prefix}num_qtl, or set {share}=0",
                )
