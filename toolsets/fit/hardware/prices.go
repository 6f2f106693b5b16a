package hardware

import (
	_ "embed"
	"fmt"
	"math"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"
)

//go:embed skus.yaml
var skusYAML []byte

// SKU is a machine type of a cloud, with what it costs.
type SKU struct {
	Provider string `json:"provider"`
	Region   string `json:"region,omitempty"`
	SKU      string `json:"sku"`
	GPU      string `json:"gpu"`
	Count    int    `json:"count"`
	// USD an hour for the whole machine; 0 means that no price is known.
	USD float64 `json:"usd,omitempty"`
	// Source and Date of the price.
	Source string `json:"source,omitempty"`
	Date   string `json:"date,omitempty"`
}

// block is rows of one source.
type block struct {
	Provider string `json:"provider"`
	Region   string `json:"region"`
	Source   string `json:"source"`
	Date     string `json:"date"`
	SKUs     []SKU  `json:"skus"`
}

// SKUs reads the machine types that ship.
func SKUs(t Table) ([]SKU, error) { return readSKUs("skus.yaml", skusYAML, t, nil) }

// maxPrices bounds a price file, in bytes.
const maxPrices = 4 << 20

// Prices lays a user's price file over the table. The file has the form of the
// table that ships: a list of {provider, region, source, date, skus: [{sku, gpu,
// count, usd}]}; gpu and count may be left out for a type the table knows.
func Prices(name string, raw []byte, t Table, base []SKU) ([]SKU, error) {
	if len(raw) > maxPrices {
		return nil, fmt.Errorf("price file %s has %d bytes, more than %d", name, len(raw), maxPrices)
	}
	rows, err := readSKUs("price file "+name, raw, t, base)
	if err != nil {
		return nil, err
	}
	out := slices.Clone(base)
	for _, r := range rows {
		out = slices.DeleteFunc(out, func(o SKU) bool {
			return strings.EqualFold(o.SKU, r.SKU) && strings.EqualFold(o.Provider, r.Provider) && (o.Region == r.Region || r.Region == "")
		})
		out = append(out, r)
	}
	return out, nil
}

func readSKUs(name string, raw []byte, t Table, base []SKU) ([]SKU, error) {
	var blocks []block
	if err := yaml.UnmarshalStrict(raw, &blocks); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	var out []SKU
	for i, b := range blocks {
		for j, s := range b.SKUs {
			at := fmt.Sprintf("%s: entry %d, sku %d (%s)", name, i+1, j+1, s.SKU)
			s.Provider, s.Region = first(s.Provider, b.Provider), first(s.Region, b.Region)
			s.Source, s.Date = first(s.Source, b.Source), first(s.Date, b.Date)
			if s.GPU == "" || s.Count == 0 {
				k := slices.IndexFunc(base, func(o SKU) bool { return strings.EqualFold(o.SKU, s.SKU) })
				if k < 0 {
					return nil, fmt.Errorf("%s: gpu and count are required for a type that the table does not know", at)
				}
				s.GPU, s.Count = first(s.GPU, base[k].GPU), max(s.Count, base[k].Count)
			}
			switch {
			case s.SKU == "" || s.Provider == "":
				return nil, fmt.Errorf("%s: provider and sku are required", at)
			case s.Count < 1 || s.Count > 1024:
				return nil, fmt.Errorf("%s: count %d: a number of GPUs from 1 to 1024 is expected", at, s.Count)
			case math.IsNaN(s.USD) || s.USD < 0 || s.USD > 1e6:
				return nil, fmt.Errorf("%s: usd %v: a price an hour from 0 to 1000000 is expected", at, s.USD)
			case s.USD > 0 && (s.Source == "" || s.Date == ""):
				return nil, fmt.Errorf("%s: source and date are required: a price is never shown without them", at)
			}
			m, err := t.Find(s.GPU)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", at, err)
			}
			s.GPU = m.Name
			out = append(out, s)
		}
	}
	return out, nil
}

func first(s ...string) string {
	for _, v := range s {
		if v != "" {
			return v
		}
	}
	return ""
}
